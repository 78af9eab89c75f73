//! Number of a process -> uid of the pod it runs in, by its control group.

use std::{fs::File, io::Read as _};

/// Of the file that is read; a path of a control group has some hundred.
const BYTES_MAX: u64 = 8192;
/// A UUID with its dashes.
const UID_BYTES: usize = 36;

/// `None` if it runs in no pod, has ended, or is not ours to see.
pub(super) fn pod_uid(process: u32) -> Option<String> {
    let mut text = String::new();
    File::open(format!("/proc/{process}/cgroup")).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    uid_in(&text)
}

/// The uid in `…/pod<uid>/…`, as the kubelet names groups itself, or in `…-pod<uid>.slice`, as it has
/// systemd name them: there with `_` in place of `-`.
fn uid_in(text: &str) -> Option<String> {
    text.match_indices("pod").find_map(|(at, pod)| {
        let uid = text.get(at + pod.len()..)?.get(..UID_BYTES)?.replace('_', "-");
        let is_uid = uid.bytes().enumerate().all(|(position, byte)| match position {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        is_uid.then_some(uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1b2c3d4e-0000-4a5b-8c6d-112233445566";

    #[test]
    fn both_drivers_names_are_understood() {
        let own = format!("0::/kubepods/burstable/pod{UID}/0123abcd\n");
        let systemd = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-01.scope\n",
            UID.replace('-', "_")
        );
        assert_eq!(uid_in(&own).as_deref(), Some(UID));
        assert_eq!(uid_in(&systemd).as_deref(), Some(UID));
    }

    #[test]
    fn other_groups_have_none() {
        for text in [
            "",
            "0::/\n",
            "0::/system.slice/podman.service\n",
            "0::/kubepods/pod1b2c",
            "0::/podéééééééééééééééééééééé",
        ] {
            assert_eq!(uid_in(text), None, "{text}");
        }
        assert_eq!(pod_uid(std::process::id()), None);
        assert_eq!(pod_uid(u32::MAX), None);
    }
}
