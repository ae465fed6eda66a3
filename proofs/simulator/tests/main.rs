//! Promises of the simulator itself: that a seed is a history, and that each check bites.

mod damage;
mod disk;

#[test]
fn a_forked_stream_is_its_own() {
    let mut random = doorbuster_simulator::random::Random::new(3);
    let mut fork = random.fork();
    assert_ne!(random.bits(), fork.bits());
}
