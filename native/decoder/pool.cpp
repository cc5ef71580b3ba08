#include "decoder/pool.hpp"

#include <algorithm>
#include <system_error>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace seedbed::decoder {
namespace {

long process() {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<long>(getpid());
#else
  return 0;
#endif
}

}  // namespace

Pool& Pool::shared() {
  // Never destroyed: its threads may outlive all that is.
  static std::mutex mutex;
  static Pool* pool = nullptr;
  static long owner = 0;
  const std::lock_guard lock(mutex);
  if (!pool || owner != process()) {
    pool = new Pool;
    owner = process();
  }
  return *pool;
}

void Pool::grow(std::size_t threads) {
  try {
    while (threads_.size() + 1 < threads) {
      threads_.emplace_back(&Pool::serve, this, threads_.size() + 1, round_.load());
      threads_.back().detach();
    }
  } catch (const std::system_error&) {
    // The system gives no more threads; those that there are share the work.
  }
}

void Pool::serve(std::size_t thread, std::uint32_t seen) {
  for (int spins = kIdleSpins;;) {
    wait_while(round_, seen, spins);
    seen = round_.load(std::memory_order_acquire);
    spins = spins_;
    if (thread < active_) (*work_)(thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void Pool::run(std::size_t threads, const std::function<void(std::size_t)>& begin,
               const std::function<void(std::size_t)>& work, int spins) {
  const std::lock_guard lock(mutex_);
  grow(threads);
  spins_ = spins;
  active_ = std::min(threads, threads_.size() + 1);
  begin(active_);
  if (active_ == 1) {
    work(0);
    return;
  }
  work_ = &work;
  running_.store(static_cast<std::uint32_t>(threads_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  work(0);
  // Every thread of the pool is heard, those without work too: the next round may not begin before.
  for (std::uint32_t left; (left = running_.load(std::memory_order_acquire)) != 0;) wait_while(running_, left, kIdleSpins);
}

}  // namespace seedbed::decoder
