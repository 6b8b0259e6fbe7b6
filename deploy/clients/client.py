"""Asks a conferencing node before a call leg begins, over gRPC. Make the stubs once, in this folder:

    pip install grpcio-tools
    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. \
        headroom/common/v1/common.proto headroom/admission/v1/admission.proto
    python client.py localhost:7500 my-call
"""
import sys

import grpc
from headroom.admission.v1.admission_pb2 import AdmitRequest, Decision, EndLegsRequest, LegChange, UpdateLegsRequest
from headroom.admission.v1.admission_pb2_grpc import AdmissionServiceStub
from headroom.common.v1.common_pb2 import Call, Direction, Leg, Media, Protocol, Service

target, call = sys.argv[1:]
leg = call + ".a"
with grpc.insecure_channel(target) as channel:
    node = AdmissionServiceStub(channel)
    asked = Leg(leg=leg, participant="sip:anna@example.com", protocol=Protocol.PROTOCOL_SIP,
                direction=Direction.DIRECTION_IN, media=Media(audio=True, video=True))
    try:  # before the leg begins; the node answers within its budget, 0.9 s
        answer = node.Admit(AdmitRequest(call=Call(call=call, service=Service.SERVICE_VMR, legs=[asked])), timeout=2)
    except grpc.RpcError as error:  # no node, or the question was wrong: your choice what becomes of the call
        sys.exit(f"not decided: {error.code().name}: {error.details()}")
    if answer.decision == Decision.DECISION_DENIED:
        sys.exit(f"denied, announce: {answer.denial.text}")
    print("granted", [(granted.leg, granted.units) for granted in answer.legs])
    change = LegChange(leg=leg, media=Media(audio=True))  # the camera is switched off
    changed = node.UpdateLegs(UpdateLegsRequest(legs=[change]), timeout=2).legs[0]
    print("changed,", changed.units, "units now")
    print("ended", node.EndLegs(EndLegsRequest(legs=[leg])).ended, "leg")
