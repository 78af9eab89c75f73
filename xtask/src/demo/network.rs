//! Nothing -> a veth pair into a namespace of our own, taken away again on drop.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, host};

const NAMESPACE_PREFIX: &str = "rotameter-demo-";

/// What the demo adds to the machine; dropping it removes all of it.
pub(super) struct Network {
    pub(super) namespace: String,
    /// Name of the veth end that stays here, which XDP is attached to.
    pub(super) our_end: String,
    pub(super) our_address: Ipv4Addr,
}

impl Network {
    /// Names carry our process id, so that two demos do not meet, and leftovers show their origin.
    pub(super) fn create() -> Result<Self> {
        remove_leftovers();
        let id = std::process::id();
        let subnet = free_subnet(id)?;
        let [a, b, c, _] = subnet.octets();
        let network = Self {
            namespace: format!("{NAMESPACE_PREFIX}{id}"),
            our_end: format!("rmd{id}"),
            our_address: Ipv4Addr::new(a, b, c, 1),
        };
        let theirs = format!("rmd{id}p");
        let (namespace, ours) = (network.namespace.as_str(), network.our_end.as_str());
        let our_address = format!("{}/30", network.our_address);
        let their_address = format!("{}/30", Ipv4Addr::new(a, b, c, 2));
        // From here on an early return drops `network`, which removes what exists by then.
        ip(&["netns", "add", namespace])?;
        ip(&["link", "add", ours, "type", "veth", "peer", "name", &theirs, "netns", namespace])?;
        ip(&["addr", "add", &our_address, "dev", ours])?;
        ip(&["link", "set", ours, "up"])?;
        ip(&["-n", namespace, "addr", "add", &their_address, "dev", &theirs])?;
        ip(&["-n", namespace, "link", "set", &theirs, "up"])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What is not there any more, or never was, is as good as removed.
        let _ = ip(&["link", "del", &self.our_end]);
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

/// Takes away what a demo left that was killed and could not. A veth end goes with the other one's namespace.
fn remove_leftovers() {
    let namespaces = output(&["netns", "list"]).unwrap_or_default();
    for namespace in leftovers(&namespaces, |id| Path::new("/proc").join(id).exists()) {
        eprintln!("demo: taking {namespace} away, which a demo left that was killed");
        let _ = ip(&["netns", "del", namespace]);
    }
}

/// Of the namespaces that `ip netns list` shows, those of demos that no longer run.
fn leftovers(namespaces: &str, runs: impl Fn(&str) -> bool) -> Vec<&str> {
    let names = namespaces.lines().filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| {
            name.strip_prefix(NAMESPACE_PREFIX)
                .is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && !runs(id))
        })
        .collect()
}

/// A subnet of `10.213.0.0/16` that no address of this machine lies in. Private, since the daemon
/// lets only private senders through door 1 by default.
fn free_subnet(id: u32) -> Result<Ipv4Addr> {
    let used = output(&["-4", "-o", "addr", "show"])?;
    let candidates = (0..=u8::MAX).map(|step| step.wrapping_add(id.to_le_bytes()[0]));
    for third in candidates {
        let prefix = format!(" 10.213.{third}.");
        if !used.contains(&prefix) {
            return Ok(Ipv4Addr::new(10, 213, third, 0));
        }
    }
    bail!("no free subnet in 10.213.0.0/16; are demos left over? `ip netns list` shows them")
}

fn ip(args: &[&str]) -> Result<()> {
    output(args).map(drop)
}

fn output(args: &[&str]) -> Result<String> {
    let program = host::find_program("ip").context("the command ip is missing; `cargo xtask setup`")?;
    command::output(Command::new(program).args(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_demos_that_no_longer_run_are_left_over() {
        let listed =
            "rotameter-demo-12 (id: 3)\nrotameter-demo-13\nrotameter-demo-\nrotameter-demo-x\nother-12\n";
        assert_eq!(leftovers(listed, |id| id == "13"), ["rotameter-demo-12"]);
    }
}
