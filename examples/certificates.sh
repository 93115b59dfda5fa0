#!/usr/bin/env bash
# A small certificate authority for a first deployment, with OpenSSL: who may join a federation, and as whom.
#
#     examples/certificates.sh DIR authority             ca.key and ca.crt: keep ca.key off line
#     examples/certificates.sh DIR aggregator NAME...    aggregator.key, aggregator.crt for the names and addresses that
#                                                        nodes dial: fl.example.org 192.0.2.7 ::1
#     examples/certificates.sh DIR node ID               ID.key, ID.crt: the node's id is the certificate's name
#     examples/certificates.sh DIR revoke ID             ID may not join any more: made known by revoked.crl
#
# An aggregator or node of the same name is renewed: its key stays, the certificate is new. Revoking an id revokes every
# certificate that it ever got. Keys are P-256, readable by their owner only. DAYS: how long a certificate is good (90; the authority's: 3650).
set -euo pipefail
usage="usage: examples/certificates.sh DIR authority | aggregator NAME... | node ID | revoke ID"
fail() { echo "certificates.sh: $*" >&2; exit 2; }
quietly() {  # COMMAND...: what it says is only shown if it fails
    local said
    said=$("$@" 2>&1) || fail "$* failed: $said"
}
[ $# -ge 2 ] || fail "$usage"
mkdir -p "$1"
cd "$1"
command=$2
shift 2
umask 077

key() { [ -s "$1.key" ] || quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
needs_authority() { [ -s ca.key ] && [ -s ca.crt ] || fail "there is no authority here yet: certificates.sh DIR authority"; }
is_id() { [[ $1 =~ ^[a-z0-9_-]{1,64}$ ]] || fail "'$1' is no id: expected [a-z0-9_-]{1,64}"; }

# sign FILE SUBJECT ALTERNATIVE-NAMES PURPOSE
sign() {
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
    quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -days "${DAYS:-90}" -out "$1.crt.new" -extfile <(
        echo "subjectAltName=$3"
        echo "extendedKeyUsage=$4"
        echo "keyUsage=critical,digitalSignature"
        echo "basicConstraints=critical,CA:FALSE"
    )
    mv "$1.crt.new" "$1.crt"
    rm "$1.csr"
    chmod 644 "$1.crt"
    mkdir -p "issued/$1"
    cp "$1.crt" "issued/$1/$(openssl x509 -in "$1.crt" -noout -serial | cut -d= -f2).crt"
    echo "$PWD/$1.crt"
}

# What `openssl ca` keeps of revocations.
settings() {
    [ -e revoked.txt ] || : >revoked.txt
    [ -e revoked.number ] || echo 01 >revoked.number
    printf '%s\n' '[ca]' 'default_ca=here' '[here]' 'database=revoked.txt' 'crlnumber=revoked.number' 'default_md=sha256' \
        "default_crl_days=3650"
}
write_revoked() {
    quietly openssl ca -config <(settings) -gencrl -cert ca.crt -keyfile ca.key -out revoked.crl.new
    mv revoked.crl.new revoked.crl
    chmod 644 revoked.crl
    echo "$PWD/revoked.crl"
}

case $command in
    authority)
        [ ! -e ca.key ] || fail "$PWD/ca.key is there already"
        key ca
        openssl req -x509 -new -key ca.key -subj "/CN=Dither authority" -days "${DAYS:-3650}" -out ca.crt \
            -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
        chmod 644 ca.crt
        echo "$PWD/ca.crt"
        settings >/dev/null
        write_revoked
        ;;
    aggregator)
        needs_authority
        [ $# -ge 1 ] || fail "$usage"
        names=
        for name in "$@"; do
            if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
        done
        sign aggregator aggregator "${names#,}" serverAuth
        ;;
    node)
        needs_authority
        [ $# -eq 1 ] || fail "$usage"
        is_id "$1"
        [ "$1" != ca ] && [ "$1" != aggregator ] || fail "'$1' is the name of another file here"
        sign "$1" "$1" "DNS:$1" clientAuth
        ;;
    revoke)
        needs_authority
        [ $# -eq 1 ] || fail "$usage"
        is_id "$1"
        [ -d "issued/$1" ] || fail "no certificate was issued to '$1' here"
        for certificate in "issued/$1"/*.crt; do
            grep -q "	$(basename "$certificate" .crt)	" revoked.txt ||
                quietly openssl ca -config <(settings) -revoke "$certificate" -cert ca.crt -keyfile ca.key
        done
        write_revoked
        ;;
    *) fail "$usage" ;;
esac
