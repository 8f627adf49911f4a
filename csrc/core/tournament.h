#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace action100m {

// Tracks the cheapest of a fixed number of players while the costs of single players change.
class Tournament {
 public:
  // `precedes(i, j)` says whether player i comes before player j if both cost the same. Costs must
  // not be negative.
  template <class Precedes>
  Tournament(const std::vector<double>& costs, const Precedes& precedes) {
    while (leaves_ < costs.size()) leaves_ *= 2;
    costs_.resize(2 * leaves_, kNobody);
    players_.resize(2 * leaves_);
    for (std::size_t i = 0; i < costs.size(); ++i) {
      costs_[leaves_ + i] = std::bit_cast<Bits>(costs[i]);
      players_[leaves_ + i] = i;
    }
    for (std::size_t node = leaves_ - 1; node > 0; --node) {
      Bits cost = costs_[2 * node], player = players_[2 * node];
      play(cost, player, 2 * node + 1, precedes);
      costs_[node] = cost;
      players_[node] = player;
    }
  }

  // Call this for each player that changed, or update_below for all but the last.
  template <class Precedes>
  void update(std::size_t changed, double new_cost, const Precedes& precedes) {
    climb(leaves_ + changed, 0, new_cost, precedes);
  }

  // Stops where the path to the root meets that of `next`, the player that is updated last.
  template <class Precedes>
  void update_below(std::size_t next, std::size_t changed, double new_cost,
                    const Precedes& precedes) {
    climb(leaves_ + changed, leaves_ + next, new_cost, precedes);
  }

  std::size_t winner() const { return players_[1]; }
  double cost() const { return std::bit_cast<double>(costs_[1]); }

 private:
  using Bits = std::uint64_t;  // costs that are not negative sort like their bits

  static constexpr Bits kNobody = std::bit_cast<Bits>(std::numeric_limits<double>::infinity());

  // Plays along the path from a leaf to the root until it meets the path from the other leaf.
  template <class Precedes>
  void climb(std::size_t leaf, std::size_t other_leaf, double new_cost, const Precedes& precedes) {
    Bits cost = std::bit_cast<Bits>(new_cost), player = leaf - leaves_;
    for (std::size_t node = leaf, other = other_leaf; node != other; node /= 2, other /= 2) {
      costs_[node] = cost;
      players_[node] = player;
      play(cost, player, node ^ 1, precedes);
    }
  }

  // Replaces this player by the other node's player if the latter wins.
  template <class Precedes>
  void play(Bits& cost, Bits& player, std::size_t other, const Precedes& precedes) const {
    bool wins = costs_[other] < cost;
    const bool is_tie = (costs_[other] == cost) & (cost != kNobody);
    if (is_tie) [[unlikely]]
      wins = precedes(players_[other], player);
    // Masks instead of a branch, because the winner is unpredictable.
    const Bits mask = -static_cast<Bits>(wins);
    cost ^= (cost ^ costs_[other]) & mask;
    player ^= (player ^ players_[other]) & mask;
  }

  std::size_t leaves_ = 1;
  std::vector<Bits> costs_;    // of the winner of the match at each node; the root is node 1
  std::vector<Bits> players_;  // who won it
};

}  // namespace action100m
