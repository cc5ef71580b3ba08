// Bytes of an index in a file without a name instead of in memory: the system may write them out and forget them.
#pragma once
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__linux__)
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace seedbed::index {

// Throws std::invalid_argument where the folder takes no (more) bytes: what is mapped already stays as it is.
class SpillFile {
 public:
  explicit SpillFile(const std::string& folder) : folder_(folder) {
#if defined(__linux__)
    std::string path = folder + "/seedbed-XXXXXX";
    file_ = mkstemp(path.data());
    if (file_ < 0) fail(errno);
    unlink(path.c_str());
#else
    fail(ENOTSUP);
#endif
  }
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;
  ~SpillFile() {
#if defined(__linux__)
    if (bytes_) munmap(bytes_, size_);
    close(file_);
#endif
  }

  const std::string& folder() const { return folder_; }

  // All bytes, old ones and new ones: at least `wanted`.
  void* grow(std::size_t wanted) {
#if defined(__linux__)
    if (wanted <= size_) return bytes_;
    // Blocks that were not there when a mapped page is written would end the process.
    if (const int error = posix_fallocate(file_, 0, static_cast<off_t>(wanted))) fail(error);
    void* const fresh = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (fresh == MAP_FAILED) fail(errno);
    if (bytes_) munmap(bytes_, size_);
    bytes_ = fresh;
    size_ = wanted;
#else
    static_cast<void>(wanted);
#endif
    return bytes_;
  }

  // Pages leave the memory of this process; they come back from the file, or from the system's cache, when they are read.
  void settle() const {
#if defined(__linux__)
    if (bytes_) madvise(bytes_, size_, MADV_DONTNEED);
#endif
  }

 private:
  [[noreturn]] void fail(int error) const {
    throw std::invalid_argument("codes cannot be written to a file in '" + folder_ + "': " + std::strerror(error));
  }

  const std::string folder_;
  int file_ = -1;
  void* bytes_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace seedbed::index
