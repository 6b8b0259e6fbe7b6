"""A foreign gRPC client: Python's own gRPC, knowing nothing but what the server tells by reflection.

    client.py lease     TARGET AUTHORITY CERTIFICATE KEY    the management node, with mutual TLS
    client.py admission TARGET                              a conferencing node, on loopback

Prints one line per step and ends with 0 when every step went as it should.
"""

import os
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TIMEOUT = 30


class Server:
    """Services and messages as the server describes them."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.database)

    def message(self, name):
        return GetMessageClass(self.pool.FindMessageTypeByName(name))

    def call(self, service, method, **fields):
        method = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = GetMessageClass(method.input_type)(**fields)
        stub = self.channel.unary_unary(
            f"/{service}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return stub(request, timeout=TIMEOUT)

    def refused(self, service, method, **fields):
        """The status and the decoded details of a request that must be refused."""
        try:
            answer = self.call(service, method, **fields)
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            packed = trailers.get("grpc-status-details-bin", b"")
            details = []
            for detail in self.message("google.rpc.Status").FromString(packed).details:
                kind = detail.type_url.rsplit("/", 1)[-1]
                details.append(self.message(kind).FromString(detail.value))
            return error, details
        raise SystemExit(f"{method} was not refused: {answer}")


def step(text, holds):
    print(("ok   " if holds else "FAIL ") + text, flush=True)
    if not holds:
        raise SystemExit(1)


def common_steps(server, service):
    services = server.database.get_services()
    step(f"reflection lists {sorted(services)}", service in services)
    health = health_pb2_grpc.HealthStub(server.channel)
    for name in ("", service):
        status = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT).status
        step(f"health of {name!r} is {status}", status == health_pb2.HealthCheckResponse.SERVING)


def leg(name, **more):
    return {
        "leg": name,
        "participant": f"sip:{name}@example.com",
        "protocol": "PROTOCOL_SIP",
        "direction": "DIRECTION_IN",
        "media": {"audio": True, "video": True},
        **more,
    }


def lease(target, authority, certificate, key):
    def read(path):
        with open(path, "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(read(authority), read(key), read(certificate))
    options = [("grpc.ssl_target_name_override", "management-node")]
    with grpc.secure_channel(target, credentials, options) as channel:
        server = Server(channel)
        service = "headroom.lease.v1.LeaseService"
        common_steps(server, service)
        nothing = {"count": 0, "digest": bytes(16)}
        opened = server.call(service, "OpenSession", nonce=os.urandom(16), open_number=1, legs=nothing)
        step(f"a session for {opened.node}, {opened.ttl_ms} ms", opened.session.number > 0)
        step("no report is wanted from a node without legs", not opened.report_required)
        call = {"call": "python-1", "service": "SERVICE_VMR", "legs": [leg("python-1")]}
        granted = server.call(service, "Allocate", session=opened.session, sequence=1, calls=[call])
        answer = granted.answers[0]
        step(f"allocated: {answer.WhichOneof('answer')}", answer.granted.leases[0].charge.units == 1)
        again = server.call(service, "Allocate", session=opened.session, sequence=1, calls=[call])
        same = again.answers[0].granted.leases[0].lease == answer.granted.leases[0].lease
        step("asking again under the same number gives the same lease", same)
        error, details = server.refused(service, "Heartbeat", session={"generation": 1, "number": 99}, legs=nothing)
        reasons = [detail.reason for detail in details if hasattr(detail, "reason")]
        step(f"a strange session: {error.code().name}, {reasons}", error.code() == grpc.StatusCode.FAILED_PRECONDITION)
        step("the reason can be read by a program", "SESSION_STALE" in reasons)
        server.call(service, "Release", session=opened.session, sequence=2, legs=["python-1"])
        step("released", True)


def admission(target):
    with grpc.insecure_channel(target) as channel:
        server = Server(channel)
        service = "headroom.admission.v1.AdmissionService"
        common_steps(server, service)
        call = {"call": "python-2", "service": "SERVICE_VMR", "legs": [leg("python-2")]}
        admitted = server.call(service, "Admit", call=call)
        step(f"admitted: decision {admitted.decision}", admitted.decision == 1 and admitted.legs[0].units == 1)
        call["legs"][0] = leg("python-3", protocol="PROTOCOL_UNSPECIFIED")
        error, details = server.refused(service, "Admit", call=call)
        fields = [v.field for detail in details for v in getattr(detail, "field_violations", ())]
        step(f"a leg without a protocol: {error.code().name}, {fields}", error.code() == grpc.StatusCode.INVALID_ARGUMENT)
        step("the field at fault is named", any("protocol" in field for field in fields))
        ended = server.call(service, "EndCall", call="python-2")
        step(f"ended {ended.ended} leg", ended.ended == 1)


if __name__ == "__main__":
    {"lease": lease, "admission": admission}[sys.argv[1]](*sys.argv[2:])
    print("done")
