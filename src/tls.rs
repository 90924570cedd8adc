//! Which cryptography TLS uses: one for the whole process, chosen before the first connection.

/// Chooses ring. What was chosen before stays.
pub fn install() {
    // The only failure: there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
}
