// From ranks of whole tokens to a list of merges that encodes alike.
#pragma once
#include <string>
#include <vector>

#include "tokenizer/bpe_train.hpp"

namespace seedbed::tokenizer {

// tiktoken joins the neighbours whose bytes together are the token of lowest rank, whatever the two are; a list of
// merges says which two. Only one pair of symbols ever becomes a given token: what is joined within the bytes of a
// token does not depend on what stands around them as long as nothing is joined across their ends, so it is what is
// joined when the token is encoded alone, and there one pair is left before the last step. These pairs, in the order of
// their tokens' ranks, are therefore exact. A token that its own bytes do not lead to has none: it only stands for a
// word that it spells whole.
//
// tokens[id]: the bytes of the token of rank id, empty where there is none. Time is quadratic in the longest token.
std::vector<Merge> merges_of_ranks(const std::vector<std::string>& tokens);

}  // namespace seedbed::tokenizer
