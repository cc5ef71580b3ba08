"""The same six everyday sentences in languages of many scripts, so that what a tokenizer charges can be compared."""

SENTENCES: dict[str, str] = {
    "English": "Water is life. The child reads a book. Tomorrow we will go to the market. My brother works in a "
    "big city. Please close the door. How much does this bread cost?",
    "German": "Wasser ist Leben. Das Kind liest ein Buch. Morgen gehen wir auf den Markt. Mein Bruder arbeitet "
    "in einer großen Stadt. Bitte schließen Sie die Tür. Wie viel kostet dieses Brot?",
    "French": "L’eau, c’est la vie. L’enfant lit un livre. Demain, nous irons au marché. Mon frère travaille "
    "dans une grande ville. Fermez la porte, s’il vous plaît. Combien coûte ce pain ?",
    "Spanish": "El agua es vida. El niño lee un libro. Mañana iremos al mercado. Mi hermano trabaja en una gran "
    "ciudad. Por favor, cierre la puerta. ¿Cuánto cuesta este pan?",
    "Polish": "Woda to życie. Dziecko czyta książkę. Jutro pójdziemy na targ. Mój brat pracuje w dużym mieście. "
    "Proszę zamknąć drzwi. Ile kosztuje ten chleb?",
    "Finnish": "Vesi on elämää. Lapsi lukee kirjaa. Huomenna menemme torille. Veljeni työskentelee suuressa "
    "kaupungissa. Sulkekaa ovi, olkaa hyvä. Paljonko tämä leipä maksaa?",
    "Turkish": "Su hayattır. Çocuk bir kitap okuyor. Yarın pazara gideceğiz. Erkek kardeşim büyük bir şehirde "
    "çalışıyor. Lütfen kapıyı kapatın. Bu ekmek ne kadar?",
    "Swahili": "Maji ni uhai. Mtoto anasoma kitabu. Kesho tutaenda sokoni. Kaka yangu anafanya kazi katika mji "
    "mkubwa. Tafadhali funga mlango. Mkate huu ni bei gani?",
    "Vietnamese": "Nước là sự sống. Đứa trẻ đọc một cuốn sách. Ngày mai chúng ta sẽ đi chợ. Anh trai tôi làm "
    "việc ở một thành phố lớn. Xin hãy đóng cửa lại. Cái bánh mì này giá bao nhiêu?",
    "Russian": "Вода — это жизнь. Ребёнок читает книгу. Завтра мы пойдём на рынок. Мой брат работает в большом "
    "городе. Закройте, пожалуйста, дверь. Сколько стоит этот хлеб?",
    "Greek": "Το νερό είναι ζωή. Το παιδί διαβάζει ένα βιβλίο. Αύριο θα πάμε στην αγορά. Ο αδελφός μου δουλεύει "
    "σε μια μεγάλη πόλη. Παρακαλώ κλείστε την πόρτα. Πόσο κοστίζει αυτό το ψωμί;",
    "Hebrew": "המים הם חיים. הילד קורא ספר. מחר נלך לשוק. אחי עובד בעיר גדולה. בבקשה סגור את הדלת. כמה עולה הלחם הזה?",
    "Arabic": "الماء حياة. الطفل يقرأ كتابًا. غدًا سنذهب إلى السوق. أخي يعمل في مدينة كبيرة. من فضلك أغلق الباب. "
    "كم سعر هذا الخبز؟",
    "Hindi": "पानी ही जीवन है। बच्चा किताब पढ़ता है। कल हम बाज़ार जाएँगे। मेरा भाई एक बड़े शहर में काम करता है। "
    "कृपया दरवाज़ा बंद कीजिए। यह रोटी कितने की है?",
    "Bengali": "জলই জীবন। শিশুটি একটি বই পড়ে। আগামীকাল আমরা বাজারে যাব। আমার ভাই একটি বড় শহরে কাজ করে। দয়া "
    "করে দরজা বন্ধ করুন। এই রুটির দাম কত?",
    "Tamil": "தண்ணீரே வாழ்க்கை. குழந்தை ஒரு புத்தகம் படிக்கிறது. நாளை நாங்கள் சந்தைக்குச் செல்வோம். என் சகோதரர் "
    "ஒரு பெரிய நகரத்தில் வேலை செய்கிறார். தயவுசெய்து கதவை மூடுங்கள். இந்த ரொட்டியின் விலை என்ன?",
    "Thai": "น้ำคือชีวิต เด็กอ่านหนังสือ พรุ่งนี้เราจะไปตลาด พี่ชายของฉันทำงานในเมืองใหญ่ กรุณาปิดประตู ขนมปังนี้ราคาเท่าไหร่",
    "Georgian": "წყალი სიცოცხლეა. ბავშვი წიგნს კითხულობს. ხვალ ბაზარში წავალთ. ჩემი ძმა დიდ ქალაქში მუშაობს. "
    "გთხოვთ, დახუროთ კარი. რა ღირს ეს პური?",
    "Chinese": "水就是生命。孩子在读一本书。明天我们要去市场。我哥哥在一个大城市工作。请把门关上。这个面包多少钱？",
    "Japanese": "水は命です。子どもは本を読みます。明日、私たちは市場へ行きます。私の兄は大きな町で働いています。"
    "ドアを閉めてください。このパンはいくらですか。",
    "Korean": "물은 생명이다. 아이는 책을 읽는다. 내일 우리는 시장에 갈 것이다. 내 형은 큰 도시에서 일한다. 문을 "
    "닫아 주세요. 이 빵은 얼마입니까?",
}
