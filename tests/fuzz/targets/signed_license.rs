//! A license document behind a good signature: whatever is accepted is consistent and can be judged.
#![no_main]

use headroom_core::Millis;
use headroom_core::license::{LicenseDocument, validity};
use headroom_fuzz::{signed, trusted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(signed) = signed::<LicenseDocument>(data) else { return };
    if let Ok(verified) = signed.verify(&trusted()) {
        let document = verified.document();
        document.check().expect("what is accepted is consistent");
        for at in [i64::MIN, 0, document.not_before.0, i64::MAX] {
            let _ = validity(document, Millis(at), &document.fingerprint);
        }
    }
});
