//! A license file: armour, envelope, signature.
#![no_main]

use headroom_core::license::SignedLicense;
use headroom_fuzz::trusted;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(signed) = SignedLicense::parse(data) {
        // What is taken in is given out as it came.
        let again = SignedLicense::parse(signed.to_file().as_bytes()).expect("its own file");
        assert_eq!(again.as_bytes(), signed.as_bytes());
        let _ = signed.verify(&trusted());
    }
});
