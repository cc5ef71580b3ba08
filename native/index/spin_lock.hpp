#pragma once
#include <atomic>
#include <thread>

namespace seedbed::index {

// Holds a flag for a few instructions; null for none.
class SpinLock {
 public:
  explicit SpinLock(std::atomic_flag* flag) : flag_(flag) {
    if (!flag_) return;
    for (int tries = 0; flag_->test_and_set(std::memory_order_acquire); ++tries)
      if (tries > 64) std::this_thread::yield();
  }
  ~SpinLock() {
    if (flag_) flag_->clear(std::memory_order_release);
  }
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

 private:
  std::atomic_flag* flag_;
};

}  // namespace seedbed::index
