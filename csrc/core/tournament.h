#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace action100m {

// Keeps the least of a fixed number of players at hand while single players change.
class Tournament {
 public:
  // `beats(i, j)` says whether player i comes before player j.
  template <class Beats>
  Tournament(std::size_t players, const Beats& beats) {
    while (leaves_ < players) leaves_ *= 2;
    winner_.resize(2 * leaves_);
    for (std::size_t i = 0; i < leaves_; ++i) {
      winner_[leaves_ + i] = static_cast<std::uint32_t>(i < players ? i : players - 1);
    }
    for (std::size_t node = leaves_ - 1; node > 0; --node) play(node, beats);
  }

  // To be called for each player that changed. Goes up only as far as the player mattered.
  template <class Beats>
  void update(std::size_t player, const Beats& beats) {
    for (std::size_t node = (leaves_ + player) / 2; node > 0; node /= 2) {
      const std::uint32_t before = winner_[node];
      play(node, beats);
      if (winner_[node] == before && before != player) return;
    }
  }

  std::size_t winner() const { return winner_[1]; }

 private:
  template <class Beats>
  void play(std::size_t node, const Beats& beats) {
    // An index instead of a branch: nobody can predict who wins.
    const bool second = beats(winner_[2 * node + 1], winner_[2 * node]);
    winner_[node] = winner_[2 * node + second];
  }

  std::size_t leaves_ = 1;
  std::vector<std::uint32_t> winner_;  // of the match at each node; the root is node 1
};

}  // namespace action100m
