//! What the process may still do after its start.
//!
//! Capabilities belong to threads: a caller comes here before it starts any, because those that run already keep what
//! they have. What is given up can never be had again, not even by a program that is run. The callers are the commands
//! `node` and `compile-component`.
//!
//! Landlock is for the compiling child alone. A thread under its rules for files may not mount, whatever the rules say,
//! so the driver cannot use it.

use landlock::{
    ABI, Access, AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Capabilities have room for 64 numbers; the kernel has fewer.
const NUMBERS: u32 = 64;

/// What the driver keeps, and what it could not do without it.
const NODE: [(CapabilitySet, &str, &str); 3] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "volumes cannot be mounted"),
    (CapabilitySet::CHOWN, "CAP_CHOWN", "files cannot be given to a pod's fsGroup"),
    (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "files whose mode is closed to root cannot be compared"),
];

/// For the driver: keeps what mounting, giving files to a group and reading them back needs, and nothing else. Neither
/// this process nor one that it starts can become more, and no core dump is written: the limit of `main` alone does not
/// hold where the kernel pipes dumps to a program.
///
/// Not needed, so not kept: CAP_DAC_OVERRIDE and CAP_FOWNER (folders of kubelet, sockets, state and volumes belong to
/// root), CAP_FSETID (no file of a volume has a bit beyond 0777), CAP_KILL (the compiling child is root too),
/// CAP_NET_BIND_SERVICE (the ports are above 1023).
///
/// # Errors
///
/// One line, when volumes could not be mounted or the kernel refuses.
pub fn drop_for_node() -> Result<(), String> {
    let held =
        capabilities(None).map_err(|errno| format!("the capabilities of the process cannot be read: {errno}"))?;
    let mut keep = CapabilitySet::empty();
    for (capability, name, without) in NODE {
        if held.permitted.contains(capability) {
            keep |= capability;
        } else if capability == CapabilitySet::SYS_ADMIN {
            return Err(format!("{name} is missing, so {without}: run it as root in a privileged container"));
        } else {
            tracing::warn!("{name} is missing, so {without}; run it as root in a privileged container");
        }
    }
    give_up_all_but(keep, held).map_err(|errno| format!("capabilities cannot be given up: {errno}"))
}

/// For the compiling child: keeps nothing. Standard input and output are open already, so it needs no file system and no
/// network either; the kernel keeps it from both where it has Landlock.
///
/// # Errors
///
/// One line, when the kernel refuses.
pub fn drop_for_compiler() -> Result<(), String> {
    let held =
        capabilities(None).map_err(|errno| format!("the capabilities of the process cannot be read: {errno}"))?;
    give_up_all_but(CapabilitySet::empty(), held)
        .map_err(|errno| format!("capabilities cannot be given up: {errno}"))?;
    let walls = wall_off().map_err(|error| format!("the file system cannot be closed: {error}"))?;
    if walls.ruleset != RulesetStatus::FullyEnforced {
        tracing::debug!(walls = ?walls.ruleset, "this kernel cannot close everything to the compiler");
    }
    Ok(())
}

/// The bounding set goes first: later there is no right to change it. Where there is none now, it stays; nobody gains
/// anything by it after `no_new_privs`.
fn give_up_all_but(keep: CapabilitySet, held: CapabilitySets) -> rustix::io::Result<()> {
    if held.effective.contains(CapabilitySet::SETPCAP) {
        shrink_bounding_set(keep)?;
    }
    clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn shrink_bounding_set(keep: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !keep.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Rules for everything that the crate knows, and none that allows anything. What the kernel does not know is left out.
fn wall_off() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V10))?
        .handle_access(AccessNet::from_all(ABI::V10))?
        .scope(Scope::from_all(ABI::V10))?
        .create()?
        .restrict_self()
}

#[cfg(test)]
mod tests;
