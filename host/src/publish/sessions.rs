//! What providers want to have back at their next call: access tokens, mostly.
//!
//! Kept by identity and session key, in memory, until they expire; given again to the same pair and to nobody else. Bounded:
//! when it is full, what expires first goes. `obtain` is the caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_sandbox::provider::Session;
use coffer_sandbox::secret::SecretBytes;
use tokio::time::Instant;

use super::fingerprint::Fingerprint;

/// How many sessions are kept at most.
const MOST: usize = 4_096;
/// The longest that a session is kept, whatever the provider says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The sessions of this process.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<Fingerprint, Kept>>);

struct Kept {
    state: SecretBytes,
    until: Instant,
}

impl Sessions {
    /// A copy of the session, if there is one that has not expired.
    #[must_use]
    pub fn find(&self, key: Fingerprint) -> Option<SecretBytes> {
        let sessions = self.lock();
        let kept = sessions.get(&key)?;
        (kept.until > Instant::now()).then(|| kept.state.duplicate())
    }

    /// Keeps a session instead of what was kept before.
    pub fn keep(&self, key: Fingerprint, session: Session) {
        let now = Instant::now();
        let mut sessions = self.lock();
        sessions.retain(|_, kept| kept.until > now);
        if sessions.len() >= MOST && !sessions.contains_key(&key) {
            let first = sessions.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| *key);
            first.map(|key| sessions.remove(&key));
        }
        let until = now + session.expires_in.min(LONGEST);
        sessions.insert(key, Kept { state: session.state, until });
    }

    /// Forgets a session that the store no longer accepts.
    pub fn forget(&self, key: Fingerprint) {
        self.lock().remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::Fingerprints;
    use super::*;

    fn session(text: &str, seconds: u64) -> Session {
        Session { state: text.as_bytes().to_vec().into(), expires_in: Duration::from_secs(seconds) }
    }

    fn key(made: &Fingerprints, name: &str) -> Fingerprint {
        made.begin("session").with(name.as_bytes()).end()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_comes_back_to_its_key_until_it_expires() {
        let (made, sessions) = (Fingerprints::default(), Sessions::default());
        sessions.keep(key(&made, "a"), session("token", 60));
        assert_eq!(sessions.find(key(&made, "a")).unwrap().expose(), b"token");
        assert!(sessions.find(key(&made, "b")).is_none());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(sessions.find(key(&made, "a")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_store_gives_up_what_expires_first() {
        let (made, sessions) = (Fingerprints::default(), Sessions::default());
        for n in 0..=MOST {
            sessions.keep(key(&made, &n.to_string()), session("token", 100 + n as u64));
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert!(sessions.find(key(&made, "0")).is_none());
        assert!(sessions.find(key(&made, "1")).is_some());
        sessions.forget(key(&made, "1"));
        assert!(sessions.find(key(&made, "1")).is_none());
    }
}
