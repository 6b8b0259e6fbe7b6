#!/bin/sh
# Asks a conferencing node before a call leg begins, with curl and jq:   client.sh localhost:7500 my-call
node=$1 call=$2 leg=$2.a

# METHOD PATH BODY: prints the answer, then the status on a line of its own; nothing when the node is away
ask() { curl -s -m 2 -w '\n%{http_code}' -X "$1" -d "$3" "http://$node$2"; }

# before the leg begins; the node answers within its budget, 0.9 s
answer=$(ask POST /v1/calls "{\"call\":\"$call\",\"service\":\"vmr\",\"legs\":[{\"leg\":\"$leg\",
  \"participant\":\"sip:anna@example.com\",\"protocol\":\"sip\",\"direction\":\"in\",
  \"media\":{\"audio\":true,\"video\":true}}]}")
status=${answer##*
}
body=${answer%
*}
case $status in
200) echo "granted $(echo "$body" | jq -c '[.legs[] | [.leg, .units]]')" ;;
403) echo "denied, announce: $(echo "$body" | jq -r .text)" && exit 1 ;;
*) echo "not decided: $status $body" && exit 1 ;; # your choice what becomes of the call
esac

# the camera is switched off
ask PATCH "/v1/legs/$leg" '{"media":{"audio":true}}' | head -n 1 | jq -r '"changed, \(.units) units now"'
# the leg has ended: told again until it is heard, because it is never refused
until ended=$(ask DELETE "/v1/legs/$leg" ''); do sleep 1; done
echo "ended $(echo "$ended" | head -n 1 | jq .ended) leg"
