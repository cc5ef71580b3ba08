#include "tokenizer/word_counts.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace seedbed::tokenizer {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

[[noreturn]] void disk_error(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

class InMemory final : public PackedBytes {
 public:
  explicit InMemory(std::string bytes) : bytes_(std::move(bytes)) {}
  std::size_t read(std::uint64_t offset, char* to, std::size_t size) const override {
    return offset < bytes_.size() ? bytes_.copy(to, size, offset) : 0;
  }

 private:
  std::string bytes_;
};

class InFile : public PackedBytes {
 public:
  InFile(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~InFile() override { ::close(descriptor_); }
  InFile(const InFile&) = delete;
  InFile& operator=(const InFile&) = delete;
  std::size_t read(std::uint64_t offset, char* to, std::size_t size) const override {
    std::size_t done = 0;
    while (done < size) {
      const ssize_t got = ::pread(descriptor_, to + done, size - done, static_cast<off_t>(offset + done));
      if (got == 0) break;
      if (got > 0) done += static_cast<std::size_t>(got);
      if (got < 0 && errno != EINTR) disk_error(path_);
    }
    return done;
  }

 protected:
  int descriptor_;
  std::string path_;
};

}  // namespace

WordCounts WordCounts::in_file(const std::string& path, std::uint64_t offset, std::uint64_t size, std::uint64_t words) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) disk_error(path);
  WordCounts counts;
  counts.packed_ = std::make_shared<InFile>(descriptor, path);
  counts.offset_ = offset;
  counts.packed_bytes_ = size;
  counts.size_ = words;
  counts.for_each([&](std::string_view word, std::uint64_t count) {
    if (count > kMostOccurrences - counts.total_) throw std::invalid_argument("the counts add up to more than 2^62");
    counts.total_ += count;
    counts.bytes_ += word.size();
  });
  return counts;
}

WordReader::WordReader(const WordCounts& counts)
    : counts_(counts), buffer_(std::min<std::uint64_t>(counts.packed_bytes_, kBufferBytes)) {}

std::uint8_t WordReader::byte() {
  if (p_ == end_) {
    const std::uint64_t left = counts_.packed_bytes_ - fetched_;
    const std::size_t size = std::min<std::uint64_t>(left, buffer_.size());
    if (size == 0 || counts_.packed_->read(counts_.offset_ + fetched_, buffer_.data(), size) != size)
      damaged("they are cut off");
    p_ = buffer_.data();
    end_ = p_ + size;
    fetched_ += size;
  }
  return static_cast<std::uint8_t>(*p_++);
}

std::uint64_t WordReader::number(std::uint64_t most) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 63; shift += 7) {
    const std::uint64_t part = byte();
    value |= (part & 0x7F) << shift;
    if (part < 0x80) {
      if (value > most || (part == 0 && shift > 0)) break;
      return value;
    }
  }
  damaged("a number is out of range");
}

bool WordReader::next() {
  if (read_ == counts_.size_) {
    if (p_ != end_ || fetched_ != counts_.packed_bytes_) damaged("more follows behind the last word");
    return false;
  }
  const std::size_t before = word_.size();
  const std::size_t shared = number(before);
  const std::size_t more = number(kLongestWord - shared);
  if (more == 0) damaged("a word is repeated");
  const std::uint8_t first = byte();
  if (shared < before && first <= static_cast<std::uint8_t>(word_[shared])) damaged("a word is out of order");
  word_.resize(shared);
  word_.push_back(static_cast<char>(first));
  while (word_.size() < shared + more) {
    word_.push_back(static_cast<char>(byte()));
    const std::size_t here = std::min<std::size_t>(end_ - p_, shared + more - word_.size());
    word_.append(p_, here);
    p_ += here;
  }
  count_ = number(kMostOccurrences);
  if (count_ == 0) damaged("a word has no count");
  ++read_;
  return true;
}

void WordReader::damaged(const char* problem) const {
  const std::uint64_t place = fetched_ - static_cast<std::uint64_t>(end_ - p_);
  throw std::invalid_argument("the words are damaged behind byte " + std::to_string(counts_.offset_ + place) + " (word " +
                              std::to_string(read_) + "): " + problem);
}

class WordWriter::File final : public InFile {
 public:
  using InFile::InFile;
  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t done = ::write(descriptor_, bytes.data(), bytes.size());
      if (done >= 0)
        bytes.remove_prefix(static_cast<std::size_t>(done));
      else if (errno != EINTR)
        disk_error(path_);
    }
  }
};

WordWriter::WordWriter() = default;
WordWriter::~WordWriter() = default;

WordWriter::WordWriter(const std::string& directory) {
  std::string path = directory + "/seedbed-words-XXXXXX";
  const int descriptor = ::mkstemp(path.data());
  if (descriptor < 0) disk_error(directory);
  file_ = std::make_shared<File>(descriptor, directory);
  ::unlink(path.c_str());
}

void WordWriter::number(std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) packed_.push_back(static_cast<char>(value | 0x80));
  packed_.push_back(static_cast<char>(value));
}

void WordWriter::add(std::string_view word, std::uint64_t count) {
  if (count > kMostOccurrences - counts_.total_) throw std::overflow_error("the counts add up to more than 2^62");
  const auto differ = std::mismatch(word.begin(), word.end(), previous_.begin(), previous_.end());
  const auto shared = static_cast<std::size_t>(differ.first - word.begin());
  const std::string_view rest = word.substr(shared);
  const std::size_t before = packed_.size();
  number(shared);
  number(rest.size());
  packed_.append(rest);
  number(count);
  previous_.resize(shared);
  previous_.append(rest);
  ++counts_.size_;
  counts_.total_ += count;
  counts_.bytes_ += word.size();
  counts_.packed_bytes_ += packed_.size() - before;
  if (file_ && packed_.size() >= kBufferBytes) {
    file_->write(packed_);
    packed_.clear();
  }
}

WordCounts WordWriter::finish() {
  if (file_) {
    file_->write(packed_);
    counts_.packed_ = std::move(file_);
  } else {
    packed_.shrink_to_fit();
    counts_.packed_ = std::make_shared<InMemory>(std::move(packed_));
  }
  return std::move(counts_);
}

WordCounts merge_counts(const std::vector<WordCounts>& parts, std::uint64_t min_count, std::uint64_t memory_bytes,
                        const std::string& directory) {
  std::uint64_t size = 0;
  for (const WordCounts& part : parts) size += part.packed_bytes();
  WordWriter writer = size <= memory_bytes ? WordWriter() : WordWriter(directory);
  std::vector<std::unique_ptr<WordReader>> readers;  // a heap: the smallest word first
  const auto later = [](const auto& a, const auto& b) { return a->word() > b->word(); };
  for (const WordCounts& part : parts) {
    auto reader = std::make_unique<WordReader>(part);
    if (reader->next()) readers.push_back(std::move(reader));
  }
  std::make_heap(readers.begin(), readers.end(), later);
  std::string word;
  while (!readers.empty()) {
    word = readers.front()->word();
    std::uint64_t count = 0;
    do {
      std::pop_heap(readers.begin(), readers.end(), later);
      if (readers.back()->count() > kMostOccurrences - count)
        throw std::overflow_error("the counts add up to more than 2^62");
      count += readers.back()->count();
      if (readers.back()->next())
        std::push_heap(readers.begin(), readers.end(), later);
      else
        readers.pop_back();
    } while (!readers.empty() && readers.front()->word() == word);
    if (count >= min_count) writer.add(word, count);
  }
  return writer.finish();
}

}  // namespace seedbed::tokenizer
