// Suffix arrays in linear time by induced sorting (Nong, Zhang and Chan 2009, "Linear suffix array construction by
// almost pure induced-sorting").
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace seedbed::text {

// The starts of all suffixes in their order; a shorter one comes before those that it begins. Texts below 2 GiB.
std::vector<std::int32_t> suffix_array(std::string_view text);

}  // namespace seedbed::text
