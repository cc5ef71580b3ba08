// Threads that stay, for work of microseconds: they spin for the next piece of work for a while and then sleep.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace seedbed::decoder {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits until `value` is no longer `old`: spinning at first, then asleep.
inline void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

// All threads of a piece of work meet here.
class Barrier {
 public:
  explicit Barrier(std::size_t threads) : threads_(static_cast<std::uint32_t>(threads)) {}

  void meet() {
    if (threads_ == 1) return;
    const std::uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      round_.notify_all();
    } else {
      wait_while(round_, round, kSpins);
    }
  }

 private:
  static constexpr int kSpins = 4000;
  alignas(64) std::atomic<std::uint32_t> arrived_ = 0;
  alignas(64) std::atomic<std::uint32_t> round_ = 0;
  std::uint32_t threads_;
};

class Pool {
 public:
  static constexpr int kIdleSpins = 20000;  // longer than choosing the next tokens takes

  // The process's pool; of a forked child its own, since threads do not survive a fork.
  static Pool& shared();

  // Runs work(thread) for thread in [0, threads), this thread being 0; one piece of work at a time. `work` must not
  // throw. Fewer may run where the system gives no more threads, so `begin(threads)` is told how many beforehand.
  // Afterwards the others stay awake for `spins` turns: 0 where another library's threads need the processors next.
  void run(std::size_t threads, const std::function<void(std::size_t)>& begin,
           const std::function<void(std::size_t)>& work, int spins = kIdleSpins);

 private:
  void grow(std::size_t threads);
  void serve(std::size_t thread, std::uint32_t seen);

  std::mutex mutex_;
  std::vector<std::thread> threads_;
  const std::function<void(std::size_t)>* work_ = nullptr;
  std::size_t active_ = 0;
  int spins_ = kIdleSpins;
  alignas(64) std::atomic<std::uint32_t> round_ = 0;
  alignas(64) std::atomic<std::uint32_t> running_ = 0;
};

}  // namespace seedbed::decoder
