//! Turns RPCs into requests of our own, in the reference's order of checks and with its texts.
//!
//! After this file nobody checks again whether a volume id may be a file name, whether a target is absolute, or whether
//! a name may be part of a URL. It must never put an attribute's value, a secret or a token into a refusal.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use coffer_sandbox::provider::Pod;
use coffer_sandbox::secret::SecretBytes;
use tonic::Code;

use super::proto::csi::volume_capability::AccessType;
use super::proto::csi::{
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    VolumeCapability,
};
use super::status::Refusal;
use crate::publish::request::{PublishRequest, TokenOrigin, Tokens};

/// The volume attribute that names the class.
const CLASS: &str = "secretProviderClass";
const POD_NAME: &str = "csi.storage.k8s.io/pod.name";
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const POD_UID: &str = "csi.storage.k8s.io/pod.uid";
const SERVICE_ACCOUNT: &str = "csi.storage.k8s.io/serviceAccount.name";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// Bytes of a volume id: what CSI allows for a string. kubelet's have 68.
const LONGEST_ID: usize = 128;
/// Bytes of a path, less the one that ends it.
const LONGEST_TARGET: usize = 4095;
/// Bytes of a name in Kubernetes.
const LONGEST_NAME: usize = 253;

/// A publish.
pub(super) fn publish(request: NodePublishVolumeRequest) -> Result<PublishRequest, Refusal> {
    let NodePublishVolumeRequest {
        volume_id,
        target_path,
        volume_capability,
        readonly,
        mut secrets,
        volume_context: mut attributes,
    } = request;
    let tokens = take_tokens(&mut secrets, &mut attributes);
    let secrets = secrets.into_iter().map(|(key, value)| (key, SecretBytes::from(value))).collect();
    let capability = volume_capability.ok_or_else(|| invalid("Volume capability missing in request"))?;
    require(&volume_id, "Volume ID missing in request")?;
    require(&target_path, "Target path missing in request")?;
    if attributes.is_empty() {
        return Err(invalid("Volume attributes missing in request"));
    }
    let volume = check_volume(volume_id)?;
    let target = check_target(target_path)?;
    let group = parse_group(capability)?;
    let class = class(&attributes)?;
    let pod = pod(&attributes)?;
    if !readonly {
        return Err(invalid(
            "Readonly is not true in request: these volumes cannot be written to; set `readOnly: true` beside `driver` \
             in the pod's csi volume",
        ));
    }
    let attributes = attributes.into_iter().collect();
    Ok(PublishRequest { volume, target, class, pod, attributes, secrets, tokens, group })
}

/// An unpublish: the volume and its target.
pub(super) fn unpublish(request: NodeUnpublishVolumeRequest) -> Result<(String, PathBuf), Refusal> {
    let NodeUnpublishVolumeRequest { volume_id, target_path } = request;
    require(&volume_id, "Volume ID missing in request")?;
    require(&target_path, "Target path missing in request")?;
    Ok((check_volume(volume_id)?, check_target(target_path)?))
}

/// What the reference wants of a call that does nothing.
pub(super) fn stage(request: &NodeStageVolumeRequest) -> Result<(), Refusal> {
    require(&request.volume_id, "Volume ID missing in request")?;
    require(&request.staging_target_path, "Target path missing in request")?;
    match request.volume_capability {
        Some(_) => Ok(()),
        None => Err(invalid("Volume capability missing in request")),
    }
}

/// As [`stage`].
pub(super) fn unstage(request: &NodeUnstageVolumeRequest) -> Result<(), Refusal> {
    require(&request.volume_id, "Volume ID missing in request")?;
    require(&request.staging_target_path, "Target path missing in request")
}

fn require(value: &str, missing: &str) -> Result<(), Refusal> {
    if value.is_empty() { Err(invalid(missing)) } else { Ok(()) }
}

/// Those in `secrets` are kubelet's. Those in the context are kubelet's too where it puts them there, and the pod
/// author's where it does not; so they count only where `secrets` has none, and never stay among the attributes.
fn take_tokens(secrets: &mut HashMap<String, String>, attributes: &mut HashMap<String, String>) -> Option<Tokens> {
    let (secret, context) = (secrets.remove(TOKENS), attributes.remove(TOKENS));
    let (json, origin) = match (secret, context) {
        (Some(json), _) => (json, TokenOrigin::Secrets),
        (None, Some(json)) => (json, TokenOrigin::Context),
        (None, None) => return None,
    };
    (!json.is_empty()).then(|| Tokens { json: json.into(), origin })
}

/// The id becomes the name of a file.
fn check_volume(id: String) -> Result<String, Refusal> {
    if id.len() > LONGEST_ID {
        return Err(invalid(format!("the volume ID has {} bytes, {LONGEST_ID} is the most", id.len())));
    }
    if id.starts_with('.') || id.contains(['/', '\\']) || id.contains("..") || id.chars().any(char::is_control) {
        let rule = "it must not begin with a dot or hold a slash, two dots in a row or a control character";
        return Err(invalid(format!("the volume ID {id:?} cannot be used: {rule}")));
    }
    Ok(id)
}

/// A path is walked later without following links; here it is only read.
fn check_target(target: String) -> Result<PathBuf, Refusal> {
    if target.len() > LONGEST_TARGET {
        return Err(invalid(format!("the target path has {} bytes, {LONGEST_TARGET} is the most", target.len())));
    }
    let path = Path::new(&target);
    let climbs = path.components().any(|component| component == Component::ParentDir);
    if !path.is_absolute() || climbs || path.file_name().is_none() || target.contains('\0') {
        let rule = "it must be absolute, not the root, and hold neither `..` nor a NUL";
        return Err(invalid(format!("the target path {target:?} cannot be used: {rule}")));
    }
    Ok(target.into())
}

fn parse_group(capability: VolumeCapability) -> Result<Option<u32>, Refusal> {
    let group = match capability.access_type {
        Some(AccessType::Mount(mount)) => mount.volume_mount_group,
        Some(AccessType::Block(_)) => {
            return Err(invalid("a block device was asked for, and this driver has only folders with files"));
        }
        // The reference takes it for a mount.
        None => String::new(),
    };
    if group.is_empty() {
        return Ok(None);
    }
    // The largest number means "leave it" to the kernel, so it is no group.
    match group.parse() {
        Ok(number) if number != u32::MAX => Ok(Some(number)),
        _ => Err(invalid("the volume mount group is not the number of a group; correct the pod's fsGroup")),
    }
}

fn class(attributes: &HashMap<String, String>) -> Result<String, Refusal> {
    match attributes.get(CLASS) {
        Some(name) if is_name(name) => Ok(name.clone()),
        Some(name) if !name.is_empty() => Err(invalid(
            "secretProviderClass is not the name of an object (lower case letters, digits, `-` and `.`, at most 253); \
             correct it in `volumeAttributes` of the pod's csi volume",
        )),
        _ => Err(invalid(
            "secretProviderClass is not set: name a SecretProviderClass of the pod's namespace in `volumeAttributes` of \
             the pod's csi volume",
        )),
    }
}

fn pod(attributes: &HashMap<String, String>) -> Result<Pod, Refusal> {
    let value = |key: &str, is_right: fn(&str) -> bool| match attributes.get(key) {
        Some(value) if is_right(value) => Ok(value.clone()),
        Some(_) => Err(not_kubelets(key, "has a value that kubelet does not send")),
        None => Err(not_kubelets(key, "is missing")),
    };
    Ok(Pod {
        name: value(POD_NAME, is_name)?,
        namespace: value(POD_NAMESPACE, is_name)?,
        uid: value(POD_UID, is_uid)?,
        // A static pod has none.
        service_account: value(SERVICE_ACCOUNT, |name| name.is_empty() || is_name(name))?,
    })
}

fn not_kubelets(key: &str, what: &str) -> Refusal {
    invalid(format!(
        "the volume attribute {key} {what}: kubelet sends it where the CSIDriver object of this driver has \
         `podInfoOnMount: true`; set that"
    ))
}

/// A DNS subdomain, as Kubernetes wants for names: what may stand in a URL's path as it is.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner);
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

/// A UUID as a rule; a static pod's author may write another.
fn is_uid(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_ID).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(inner)
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests;
