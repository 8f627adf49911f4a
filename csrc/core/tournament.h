#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace action100m {

// Keeps the cheapest of a fixed number of players at hand while the costs of single players change.
class Tournament {
 public:
  // `precedes(i, j)` says whether player i comes before player j where both cost the same. Costs
  // are not negative.
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

  // To be called for each player that changed.
  template <class Precedes>
  void update(std::size_t changed, double new_cost, const Precedes& precedes) {
    Bits cost = std::bit_cast<Bits>(new_cost), player = changed;
    for (std::size_t node = leaves_ + changed; node > 0; node /= 2) {
      costs_[node] = cost;
      players_[node] = player;
      play(cost, player, node ^ 1, precedes);
    }
  }

  std::size_t winner() const { return players_[1]; }
  double cost() const { return std::bit_cast<double>(costs_[1]); }

 private:
  using Bits = std::uint64_t;  // costs that are not negative are in the order of their bits

  static constexpr Bits kNobody = std::bit_cast<Bits>(std::numeric_limits<double>::infinity());

  // Puts the other node's player in the place of this one if he wins.
  template <class Precedes>
  void play(Bits& cost, Bits& player, std::size_t other, const Precedes& precedes) const {
    bool wins = costs_[other] < cost;
    const bool is_tie = (costs_[other] == cost) & (cost != kNobody);
    if (is_tie) [[unlikely]]
      wins = precedes(players_[other], player);
    // Masks instead of a branch: nobody can predict who wins.
    const Bits mask = -static_cast<Bits>(wins);
    cost ^= (cost ^ costs_[other]) & mask;
    player ^= (player ^ players_[other]) & mask;
  }

  std::size_t leaves_ = 1;
  std::vector<Bits> costs_;    // of the winner of the match at each node; the root is node 1
  std::vector<Bits> players_;  // who won it
};

}  // namespace action100m
