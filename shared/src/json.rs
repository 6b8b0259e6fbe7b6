//! Protobuf messages as JSON for `--json`: the field names of the .proto files, enum values as the
//! lower-case words people use, 64-bit numbers as numbers.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value,
};
use serde_json::{Map, Number, Value as Json};

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(headroom_proto::FILE_DESCRIPTOR_SET).ok());

/// A message as JSON.
///
/// `name` is its full name, for example `headroom.admin.v1.ListNodesResponse`. A name that is not
/// in the compiled descriptors is a defect and gives `null`.
#[must_use]
pub fn of<M: Message>(name: &str, message: &M) -> Json {
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(name));
    debug_assert!(descriptor.is_some(), "no message {name}");
    let bytes = message.encode_to_vec();
    descriptor
        .and_then(|descriptor| DynamicMessage::decode(descriptor, bytes.as_slice()).ok())
        .map_or(Json::Null, |message| object(&message))
}

fn object(message: &DynamicMessage) -> Json {
    let mut map = Map::new();
    for field in message.descriptor().fields() {
        // What has presence and is absent is left out; everything else is always there.
        if !field.supports_presence() || message.has_field(&field) {
            map.insert(field.name().to_owned(), value(&field, &message.get_field(&field)));
        }
    }
    Json::Object(map)
}

fn value(field: &FieldDescriptor, given: &Value) -> Json {
    match given {
        Value::List(items) => Json::Array(items.iter().map(|item| scalar(&field.kind(), item)).collect()),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, item)| (map_key(key), scalar(&field.kind(), item)));
            Json::Object(entries.collect())
        }
        single => scalar(&field.kind(), single),
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn scalar(kind: &Kind, given: &Value) -> Json {
    match given {
        Value::Bool(given) => Json::Bool(*given),
        Value::I32(given) => Json::from(*given),
        Value::I64(given) => Json::from(*given),
        Value::U32(given) => Json::from(*given),
        Value::U64(given) => Json::from(*given),
        Value::F32(given) => Number::from_f64(f64::from(*given)).map_or(Json::Null, Json::Number),
        Value::F64(given) => Number::from_f64(*given).map_or(Json::Null, Json::Number),
        Value::String(given) => Json::String(given.clone()),
        Value::Bytes(given) => Json::String(hex::encode(given)),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) => word(descriptor, *number),
            _ => Json::from(*number),
        },
        Value::Message(given) => object(given),
        Value::List(_) | Value::Map(_) => Json::Null,
    }
}

/// `DENIAL_REASON_NO_LICENSE` of `DenialReason` is `no_license`; `…_UNSPECIFIED` is `null`.
fn word(descriptor: &EnumDescriptor, number: i32) -> Json {
    let Some(found) = descriptor.get_value(number) else { return Json::from(number) };
    let first = descriptor.get_value(0).map(|first| first.name().to_owned()).unwrap_or_default();
    let prefix = first.strip_suffix("UNSPECIFIED").unwrap_or_default();
    match found.name().strip_prefix(prefix).unwrap_or(found.name()) {
        "UNSPECIFIED" => Json::Null,
        name => Json::String(name.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use headroom_proto::{admin, common};

    #[test]
    fn a_message_reads_as_its_proto_file_says() {
        let message = admin::ListDenialsResponse {
            denials: vec![admin::DenialRecord {
                number: 7,
                reason: common::DenialReason::NoLicense.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let json = super::of("headroom.admin.v1.ListDenialsResponse", &message);
        assert_eq!(json["denials"][0]["reason"], "no_license");
        assert_eq!(json["denials"][0]["number"], 7);
        assert_eq!(json["denials"][0]["by_node"], false);
        assert_eq!(json["next_page_token"], "");
    }
}
