"""Names of languages, from the codes that files of parallel text are called by: ISO 639-3, perhaps with a script."""

from __future__ import annotations

from collections.abc import Iterable

_NAMES = """
abk Abkhaz; ace Acehnese; afr Afrikaans; als Albanian; amh Amharic; arb Arabic; asm Assamese; ast Asturian; ayr Aymara
azj Azerbaijani; bam Bambara; ban Balinese; bel Belarusian; bem Bemba; ben Bengali; bho Bhojpuri; bis Bislama
bod Tibetan; bos Bosnian; bre Breton; bug Buginese; bul Bulgarian; cat Catalan; ceb Cebuano; ces Czech; cha Chamorro
chr Cherokee; ckb Sorani Kurdish; cmn Chinese; cos Corsican; cym Welsh; dan Danish; deu German; div Dhivehi
dzo Dzongkha; ell Greek; eng English; epo Esperanto; est Estonian; eus Basque; ewe Ewe; fao Faroese; fij Fijian
fin Finnish; fon Fon; fra French; fri Frisian; fry Frisian; fuc Fula; fur Friulian; gla Scottish Gaelic; gle Irish
glg Galician; gug Guarani; guj Gujarati; hat Haitian Creole; hau Hausa; haw Hawaiian; heb Hebrew; hil Hiligaynon
hin Hindi; hrv Croatian; hsb Upper Sorbian; hun Hungarian; hye Armenian; ibo Igbo; iii Nuosu Yi; ike Inuktitut
ilo Ilocano; ina Interlingua; ind Indonesian; isl Icelandic; ita Italian; jav Javanese; jpn Japanese; kal Greenlandic
kan Kannada; kat Georgian; kaz Kazakh; khk Mongolian; khm Khmer; kin Kinyarwanda; kir Kyrgyz; kor Korean; kri Krio
lad Ladino; lao Lao; lat Latin; lav Latvian; lin Lingala; lit Lithuanian; ltz Luxembourgish; lug Luganda
lvs Latvian; mai Maithili; mal Malayalam; mar Marathi; min Minangkabau; mkd Macedonian; mlt Maltese; mri Maori
mya Burmese; nav Navajo; nds Low German; nep Nepali; npi Nepali; nld Dutch; nno Norwegian Nynorsk; nob Norwegian Bokmål
nya Chichewa; oci Occitan; ory Odia; oss Ossetian; pan Punjabi; pbu Pashto; pes Persian; plt Malagasy; pol Polish
por Portuguese; quz Quechua; roh Romansh; ron Romanian; run Rundi; rus Russian; sag Sango; san Sanskrit; sco Scots
sin Sinhala; slk Slovak; slv Slovene; sme Northern Sami; smo Samoan; sna Shona; snd Sindhi; som Somali; sot Sotho
spa Spanish; srd Sardinian; srp Serbian; ssw Swati; sun Sundanese; swe Swedish; swh Swahili; tah Tahitian; tam Tamil
tat Tatar; tel Telugu; tgk Tajik; tgl Tagalog; tha Thai; tir Tigrinya; ton Tongan; tpi Tok Pisin; tsn Tswana
tuk Turkmen; tur Turkish; twi Twi; uig Uyghur; ukr Ukrainian; urd Urdu; uzn Uzbek; ven Venda; vie Vietnamese
war Waray; wol Wolof; xho Xhosa; ydd Yiddish; yor Yoruba; yue Cantonese; zsm Malay; zul Zulu
"""
_PARTS = {
    "hans": "simplified", "hant": "traditional", "cyrl": "Cyrillic", "latn": "Latin script", "arab": "Arabic script",
    "mong": "Mongolian script", "tfng": "Tifinagh", "br": "Brazil", "pt": "Portugal",
}  # fmt: skip
_NAME_OF = dict(entry.strip().split(" ", 1) for line in _NAMES.strip().splitlines() for entry in line.split(";"))
# Tens of millions speak each of these, or they alone use their script: what a chart shows of hundreds of languages.
_WELL_KNOWN = (
    "English", "Chinese", "Hindi", "Spanish", "Arabic", "French", "Bengali", "Portuguese", "Russian", "Indonesian",
    "Urdu", "German", "Japanese", "Swahili", "Turkish", "Tamil", "Vietnamese", "Tagalog", "Korean", "Persian", "Hausa",
    "Italian", "Punjabi", "Gujarati", "Thai", "Kannada", "Amharic", "Yoruba", "Burmese", "Polish", "Ukrainian",
    "Malayalam", "Khmer", "Dutch", "Greek", "Hebrew", "Finnish", "Georgian", "Tibetan",
)  # fmt: skip


def language_name(code: str) -> str:
    """ "cmn_hans" is "Chinese (simplified)"; a code that is not known stays as it is."""
    first, *parts = code.split("_")
    if first.lower() not in _NAME_OF:
        return code
    name = _NAME_OF[first.lower()]
    return f"{name} ({', '.join(_PARTS.get(part.lower(), part) for part in parts)})" if parts else name


def well_known(names: Iterable[str]) -> list[str]:
    """Those of `names` that most readers know, the first variant of each."""
    chosen: dict[str, str] = {}
    for name in sorted(names):
        base = name.split(" (")[0]
        if base in _WELL_KNOWN:
            chosen.setdefault(base, name)
    return list(chosen.values())
