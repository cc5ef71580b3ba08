// Cutting by a function of Python's, for patterns that need a regular-expression engine.
#include <stdexcept>

#include "tokenizer/bindings.hpp"
#include "tokenizer/cut_bpe.hpp"

namespace seedbed::tokenizer {
namespace {

using Places = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ranges = nb::ndarray<const std::int64_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;

// Calls cut(bytes) -> (text with spaces put in or None, ranges, places of those spaces); holds the GIL for the while.
class CalledCutter final : public TextCutter {
 public:
  explicit CalledCutter(nb::object function) : function_(std::move(function)) {}
  ~CalledCutter() override {
    const nb::gil_scoped_acquire hold;
    function_.reset();
  }

  CutText cut(std::string_view text) const override {
    const nb::gil_scoped_acquire hold;
    const auto [changed, ranges, spaces] =
        nb::cast<std::tuple<nb::object, Ranges, Places>>(function_(nb::bytes(text.data(), text.size())));
    CutText found;
    if (!changed.is_none()) found.changed = bytes_view(changed);
    const std::size_t size = spaces.shape(0) ? found.changed.size() : text.size();
    found.pieces.reserve(ranges.shape(0));
    std::size_t last = 0;
    for (std::size_t i = 0; i < ranges.shape(0); ++i) {
      const auto from = static_cast<std::size_t>(ranges(i, 0)), to = static_cast<std::size_t>(ranges(i, 1));
      if (from < last || to < from || to > size) throw std::invalid_argument("pieces of a text are out of order");
      found.pieces.push_back({from, to});
      last = to;
    }
    found.spaces.assign(spaces.data(), spaces.data() + spaces.shape(0));
    if (found.spaces.size() + text.size() < size) throw std::invalid_argument("more was put in than spaces");
    return found;
  }

 private:
  nb::object function_;
};

}  // namespace
}  // namespace seedbed::tokenizer

void bind_cutting(nanobind::module_& m) {
  using namespace seedbed::tokenizer;
  m.def("cut_bpe",
        [](const nb::list& tokens, const Triples& merges, const Ids& byte_ids, nb::object cut,
           const Ids& whole_words) -> std::shared_ptr<Algorithm> {
          return std::make_shared<CutBpe>(bpe_model(tokens, merges, byte_ids, whole_words),
                                          std::make_shared<CalledCutter>(std::move(cut)));
        },
        "tokens"_a, "merges"_a, "byte_ids"_a, "cut"_a, "whole_words"_a);
  m.def("cut_words",
        [](nb::object cut) -> std::shared_ptr<WordSource> {
          return std::make_shared<CutWords>(std::make_shared<CalledCutter>(std::move(cut)));
        },
        "cut"_a);
}
