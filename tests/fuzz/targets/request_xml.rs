//! A machine's request as XML.
#![no_main]

use headroom_core::activation::read_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = read_request(data);
});
