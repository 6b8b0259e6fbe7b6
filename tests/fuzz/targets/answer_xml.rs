//! The licensing server's answer as XML.
#![no_main]

use headroom_core::activation::read_answer;
use headroom_fuzz::trusted;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = read_answer(data, &trusted());
});
