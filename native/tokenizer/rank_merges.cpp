#include "tokenizer/rank_merges.hpp"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace seedbed::tokenizer {

std::vector<Merge> merges_of_ranks(const std::vector<std::string>& tokens) {
  constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::unordered_map<std::string_view, std::uint32_t> rank_of;
  rank_of.reserve(tokens.size());
  for (std::uint32_t id = 0; id < tokens.size(); ++id)
    if (!tokens[id].empty()) rank_of.emplace(tokens[id], id);
  const auto rank = [&](std::string_view bytes) {
    const auto found = rank_of.find(bytes);
    return found == rank_of.end() ? kNone : found->second;
  };

  std::vector<Merge> merges;
  std::vector<std::size_t> cuts;       // where the symbols begin, and the end of the last
  std::vector<std::uint32_t> results;  // what symbols i and i + 1 would become
  for (std::uint32_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    if (token.size() < 2) continue;
    cuts.resize(token.size() + 1);
    for (std::size_t i = 0; i < cuts.size(); ++i) cuts[i] = i;
    const auto joined = [&](std::size_t i) { return rank(token.substr(cuts[i], cuts[i + 2] - cuts[i])); };
    results.resize(token.size() - 1);
    for (std::size_t i = 0; i < results.size(); ++i) results[i] = joined(i);
    while (results.size() > 1) {
      const auto best = std::min_element(results.begin(), results.end());
      if (*best == kNone) break;
      const auto i = static_cast<std::size_t>(best - results.begin());
      cuts.erase(cuts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      results.erase(best);
      if (i < results.size()) results[i] = joined(i);
      if (i > 0) results[i - 1] = joined(i - 1);
    }
    if (results.size() > 1) continue;
    const std::uint32_t left = rank(token.substr(0, cuts[1])), right = rank(token.substr(cuts[1]));
    if (left != kNone && right != kNone) merges.push_back({left, right, id});
  }
  return merges;
}

}  // namespace seedbed::tokenizer
