//! An answer behind a good signature.
#![no_main]

use headroom_core::activation::Answer;
use headroom_fuzz::{signed, trusted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(signed) = signed::<Answer>(data) else { return };
    if let Ok(verified) = signed.verify(&trusted()) {
        for holding in &verified.document().holdings {
            let _ = holding.license.verify(&trusted());
        }
    }
});
