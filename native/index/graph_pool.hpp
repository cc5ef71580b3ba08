// What a walk on blocks keeps at hand: candidates by distance, and marks on the slots that it has been through.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace seedbed::index {

// At most `width` candidates, closest first. Distances and slots lie apart, so that a place is found by comparing with
// many distances at a time, without branches that could not be foreseen.
class CandidatePool {
 public:
  static constexpr std::uint32_t kExpanded = 0x80000000u;

  void start(std::size_t width) {
    if (distances_.size() < width) {
      distances_.resize(width);
      slots_.resize(width);
    }
    width_ = width;
    size_ = 0;
  }

  std::size_t size() const { return size_; }
  std::uint32_t& slot(std::size_t i) { return slots_[i]; }

  // What is not below it cannot enter.
  float limit() const { return size_ < width_ ? std::numeric_limits<float>::infinity() : distances_[size_ - 1]; }

  // Where the candidate stands now, or size() if it may not enter.
  std::size_t enter(float distance, std::uint32_t slot) {
    if (!(distance < limit())) return size_;
    const std::size_t place = place_of(distance);
    size_ -= size_ == width_;
    float* const at = distances_.data() + place;
    std::uint32_t* const slot_at = slots_.data() + place;
    std::memmove(at + 1, at, (size_ - place) * sizeof(float));
    std::memmove(slot_at + 1, slot_at, (size_ - place) * sizeof(std::uint32_t));
    *at = distance;
    *slot_at = slot;
    ++size_;
    return place;
  }

 private:
  std::size_t place_of(float distance) const {
    constexpr std::size_t together = 128;  // so many comparisons cost less than one more step of a binary search
    const float* from = distances_.data();
    std::size_t left = size_;
    for (; left > together; left -= left / 2) from += from[left / 2 - 1] <= distance ? left / 2 : 0;
    std::uint32_t before = 0;
    for (std::size_t i = 0; i < left; ++i) before += from[i] <= distance;
    return static_cast<std::size_t>(from - distances_.data()) + before;
  }

  std::vector<float> distances_;
  std::vector<std::uint32_t> slots_;
  std::size_t width_ = 0, size_ = 0;
};

// One bit for each slot: few are set, so clearing those costs less than keeping a number for each.
class Marks {
 public:
  void start(std::size_t slots) {
    for (std::uint32_t slot : set_) bits_[slot / 64] = 0;
    set_.clear();
    if (bits_.size() * 64 < slots) bits_.resize((slots + 63) / 64);
  }
  bool has(std::uint32_t slot) const { return bits_[slot / 64] >> (slot % 64) & 1u; }
  bool add(std::uint32_t slot) {
    if (has(slot)) return false;
    set_.push_back(slot);
    bits_[slot / 64] |= std::uint64_t{1} << (slot % 64);
    return true;
  }

 private:
  std::vector<std::uint64_t> bits_;
  std::vector<std::uint32_t> set_;
};

}  // namespace seedbed::index
