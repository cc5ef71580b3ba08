// What Python sees of rank files.
#include "tokenizer/bindings.hpp"
#include "tokenizer/rank_merges.hpp"

namespace seedbed::tokenizer {
namespace {

// uint32 (3 n,): the left, the right and the joined token of each merge.
Array<std::uint32_t> merges(const nb::list& listed) {
  const std::vector<std::string> tokens = copies_of(listed);
  std::vector<Merge> found;
  {
    nb::gil_scoped_release release;
    found = merges_of_ranks(tokens);
  }
  std::uint32_t* data;
  auto array = new_array(found.size() * 3, &data);
  for (const Merge& merge : found) {
    *data++ = merge.left;
    *data++ = merge.right;
    *data++ = merge.result;
  }
  return array;
}

}  // namespace
}  // namespace seedbed::tokenizer

void bind_ranks(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  m.def("merges_of_ranks", &merges, "tokens"_a);
}
