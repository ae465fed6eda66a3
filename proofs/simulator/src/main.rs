//! The simulator's command line.

fn main() {
    let mut random = doorbuster_simulator::random::Random::new(1);
    random.bits();
}
