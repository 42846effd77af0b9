//! NodePublishVolume in kubelet's words.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::pod::{Pod, Volume};
use super::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use super::proto::csi::{NodePublishVolumeRequest, VolumeCapability};
use super::{CallError, Kubelet};

/// The key under which tokens stand.
pub(super) const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// `SINGLE_NODE_WRITER`: what kubelet says for every inline volume, read-only or not.
const ACCESS_MODE: i32 = 1;

/// The id that kubelet makes up for an inline volume.
pub fn volume_id(pod_uid: &str, volume: &str) -> String {
    let digest = Sha256::digest(format!("{pod_uid}{volume}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

impl Kubelet {
    /// What kubelet asks for when this pod starts, and again about every minute. `group` says whether the driver takes
    /// care of `fsGroup` itself.
    ///
    /// # Errors
    /// [`CallError::NoVolume`].
    pub fn request(&self, pod: &Pod, volume: &str, group: bool) -> Result<NodePublishVolumeRequest, CallError> {
        let found = pod
            .find(volume)
            .ok_or_else(|| CallError::NoVolume { pod: pod.name().to_owned(), volume: volume.to_owned() })?;
        let mut context = self.context(pod, found);
        let mut secrets: HashMap<String, String> = found.secret.clone().unwrap_or_default().into_iter().collect();
        if let Some(tokens) = self.tokens(pod) {
            let place = if self.driver.tokens_in_secrets { &mut secrets } else { &mut context };
            place.insert(TOKENS.to_owned(), tokens);
        }
        let group = pod.group().filter(|_| group).map(|group| group.to_string());
        let mount = MountVolume { volume_mount_group: group.unwrap_or_default(), ..MountVolume::default() };
        Ok(NodePublishVolumeRequest {
            volume_id: volume_id(pod.uid(), volume),
            target_path: self.target(pod, volume).display().to_string(),
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode { mode: ACCESS_MODE }),
                access_type: Some(AccessType::Mount(mount)),
            }),
            readonly: found.read_only,
            secrets,
            volume_context: context,
        })
    }

    /// The attributes of the pod's author, and over them what kubelet itself says about the pod.
    fn context(&self, pod: &Pod, volume: &Volume) -> HashMap<String, String> {
        let mut context: HashMap<String, String> = volume.attributes.clone().into_iter().collect();
        if self.driver.pod_info {
            let said = [
                ("pod.name", pod.name()),
                ("pod.namespace", pod.namespace_name()),
                ("pod.uid", pod.uid()),
                ("serviceAccount.name", pod.service_account_name()),
                ("ephemeral", "true"),
            ];
            context.extend(said.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned())));
        }
        context
    }

    fn tokens(&self, pod: &Pod) -> Option<String> {
        let tokens = self.driver.tokens.as_ref()?;
        Some(self.memory().tokens.json(tokens, pod))
    }
}
