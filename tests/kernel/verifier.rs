//! The three programs -> how much work the verifier has with them.

use super::loaded::Loaded;

/// Instructions that the verifier may walk through, each program; about half more than it does on
/// Linux 6.18. The kernel gives up at a million, and older kernels prune less.
const XDP_BUDGET: u32 = 420_000;
const SOCKET_FILTER_BUDGET: u32 = 320_000;
const LOOPBACK_BUDGET: u32 = 450_000;

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn the_verifier_stays_within_its_budget() {
    let mut kernel = Loaded::new();
    let xdp = kernel.object.xdp().expect("it is there").info().expect("it is loaded");
    let socket_filter = kernel.object.socket_filter().expect("it is there").info().expect("it is loaded");
    kernel.object.load_loopback().expect("this kernel takes it");
    let loopback = kernel.object.loopback().expect("it is there").info().expect("it is loaded");
    for (program, info, budget) in [
        ("door_xdp", xdp, XDP_BUDGET),
        ("door_socket_filter", socket_filter, SOCKET_FILTER_BUDGET),
        ("door_loopback", loopback, LOOPBACK_BUDGET),
    ] {
        let verified = info.verified_instruction_count().expect("Linux 5.16 and later say it");
        println!("{program}: {verified} instructions verified, budget {budget}");
        assert!(verified <= budget, "{program}: {verified} instructions verified, more than {budget}");
    }
}
