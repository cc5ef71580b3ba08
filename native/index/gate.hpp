// Any number of readers together, one writer at a time; a waiting writer keeps new readers out, so that a stream of
// searches cannot starve it.
#pragma once
#include <mutex>
#include <shared_mutex>

namespace seedbed::index {

class Gate {
 public:
  std::shared_lock<std::shared_mutex> read() const {
    const std::lock_guard turn(turnstile_);
    return std::shared_lock(access_);
  }
  std::unique_lock<std::shared_mutex> write() const {
    const std::lock_guard turn(turnstile_);
    return std::unique_lock(access_);
  }

 private:
  mutable std::shared_mutex access_;
  mutable std::mutex turnstile_;
};

}  // namespace seedbed::index
