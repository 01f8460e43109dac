#!/usr/bin/env bash
# Install the real servers and clients that the tests talk to (Debian 12 and newer).
#
#   tests/install-peers.sh           install what is missing (needs root)
#   tests/install-peers.sh --check   only tell what is missing
#
# As root: apt-get, with a policy-rc.d that lets no package start a daemon.
# Else: a list of what is missing; an error when CI=true, because CI may not skip.
#
# vsftpd and proftpd cannot be installed together, so both are unpacked below $ECPDS_PEERS
# (/opt/ecpds-peers) and only their libraries are installed. The folder also holds the login of
# the unprivileged system user `ecpds-peer`, under which the servers serve when started by root:
# its account stays locked, the password (random, made once) counts only for /etc/pam.d/ecpds-peers.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
export PATH="$PATH:/usr/sbin:/sbin"

peers="${ECPDS_PEERS:-/opt/ecpds-peers}"
user=ecpds-peer
service=/etc/pam.d/ecpds-peers
policy=/usr/sbin/policy-rc.d

# program -> packages that bring it
wanted=(
    "sshd:openssh-server"
    "ssh:openssh-client"
    "sftp:openssh-client"
    "scp:openssh-client"
    "nginx:nginx-light libnginx-mod-http-dav-ext"
    "lftp:lftp"
    "curl:curl ca-certificates"
    "sshpass:sshpass"
    "openssl:openssl"
    "setpriv:util-linux"
    "apache2:apache2-bin" # without the service
    "ncftpget:ncftp"
    "gzip:gzip"
    "bzip2:bzip2"
    "lbzip2:lbzip2"
    "xz:xz-utils"
    "lz4:lz4"
    "zstd:zstd"
    "unzip:unzip"
    "cadaver:cadaver"
    "restic:restic"
    "mosquitto:mosquitto"
    "mosquitto_sub:mosquitto-clients"
    "litmus:litmus"
    "psftp:putty-tools"
    "ssh-audit:ssh-audit"
    "h2load:nghttp2-client" # make bench
    "chromium:chromium fonts-liberation"
    "systemd-analyze:systemd"
    "node:nodejs"
    "npm:npm"
)
libraries=(
    "nginx/modules/ngx_http_dav_ext_module.so:libnginx-mod-http-dav-ext"
    "*/security/pam_pwdfile.so:libpam-pwdfile"
)
unpacked=(
    "usr/sbin/vsftpd:vsftpd"
    "usr/sbin/proftpd:proftpd-core"
    "usr/lib/proftpd/mod_tls.so:proftpd-mod-crypto"
    "usr/lib/openssh/regress/sftp-cmds.sh:openssh-tests"
)

modules=(
    "azurite-blob:azurite@3.37.0" # from npm, below $ECPDS_PEERS
    "../tus-js-client/package.json:tus-js-client@4.3.1"
    "../mqtt/package.json:mqtt@5.16.0"
)

packages=() programs=() archives=() setup=() fetched=()
find_missing() {
    local entry
    packages=() programs=() archives=() setup=() fetched=()
    for entry in "${wanted[@]}"; do
        command -v "${entry%%:*}" >/dev/null && continue
        programs+=("${entry%%:*}")
        # shellcheck disable=SC2206  # several packages in one word
        packages+=(${entry#*:})
    done
    for entry in "${libraries[@]}"; do
        compgen -G "/usr/lib/${entry%%:*}" >/dev/null && continue
        compgen -G "/lib/${entry%%:*}" >/dev/null && continue
        programs+=("${entry#*:}")
        packages+=("${entry#*:}")
    done
    for entry in "${unpacked[@]}"; do
        [ -e "$peers/${entry%%:*}" ] && continue
        programs+=("${entry#*:}")
        archives+=("${entry#*:}")
    done
    for entry in "${modules[@]}"; do
        [ -e "$peers/node_modules/.bin/${entry%%:*}" ] && continue
        programs+=("${entry%%:*}")
        fetched+=("${entry#*:}")
    done
    [ "$(getent passwd "$user" | cut -d: -f6)" = "$peers/home" ] || setup+=("user $user")
    [ -e "$peers/logins" ] || setup+=("$peers/logins")
    grep -qs "pwdfile=$peers/logins" "$service" || setup+=("$service")
}

install_quietly() {
    local log
    log=$(mktemp)
    if ! apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

forbid_daemons() {
    exec 9>/run/lock/ecpds-install-peers # two runs would restore each other's policy
    flock 9
    saved=""
    if [ -e "$policy" ]; then
        saved=$(mktemp)
        cp -a "$policy" "$saved"
    fi
    trap restore_policy EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

restore_policy() {
    if [ -n "$saved" ]; then
        mv -f "$saved" "$policy"
    else
        rm -f "$policy"
    fi
}

unpack_archives() {
    local folder depends
    folder=$(mktemp -d)
    chmod 755 "$folder" # apt downloads as the user _apt
    mapfile -t depends < <(
        apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
            --no-enhances "${archives[@]}" | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p' | sort -u
    )
    install_quietly install -y --no-install-recommends "${depends[@]}"
    (cd "$folder" && install_quietly download "${archives[@]}")
    mkdir -p "$peers"
    for archive in "$folder"/*.deb; do
        dpkg -x "$archive" "$peers"
    done
    rm -rf "$folder"
}

create_login() {
    local password
    mkdir -p "$peers/home" # vsftpd wants to see it, nobody writes to it
    chmod 755 "$peers" "$peers/home"
    if getent passwd "$user" >/dev/null; then
        usermod --home "$peers/home" "$user"
    else
        useradd --system --user-group --no-create-home --home-dir "$peers/home" \
            --shell /bin/sh "$user"
    fi
    if [ ! -e "$peers/logins" ]; then
        password=$(openssl rand -hex 16)
        (
            umask 077
            printf '%s\n' "$password" >"$peers/password"
            printf '%s:%s\n' "$user" "$(printf '%s' "$password" | openssl passwd -6 -stdin)" \
                >"$peers/logins"
        )
    fi
    cat >"$service" <<PAM
# Login of the servers that the tests of ecpds start on loopback (tests/install-peers.sh).
auth    required pam_pwdfile.so pwdfile=$peers/logins nodelay
account required pam_permit.so
session required pam_permit.so
PAM
}

find_missing
if [ ${#programs[@]} -eq 0 ] && [ ${#setup[@]} -eq 0 ]; then
    exit 0
fi
if [ "${1:-}" = "--check" ] || [ "$(id -u)" -ne 0 ]; then
    {
        echo "=============================================================================="
        echo "Missing for the tests (tests that need them are skipped, in CI they fail):"
        [ ${#programs[@]} -eq 0 ] || printf '    %s\n' "${programs[@]}"
        [ ${#setup[@]} -eq 0 ] || printf '    %s (made by root)\n' "${setup[@]}"
        echo "Install them with:  sudo tests/install-peers.sh"
        echo "=============================================================================="
    } >&2
    [ "${CI:-}" = "true" ] && exit 1
    exit 0
fi

if [ ${#packages[@]} -gt 0 ] || [ ${#archives[@]} -gt 0 ]; then
    echo "installing test peers: ${programs[*]}"
    forbid_daemons
    install_quietly update
    if [ ${#packages[@]} -gt 0 ]; then
        install_quietly install -y --no-install-recommends "${packages[@]}"
    fi
    if [ ${#archives[@]} -gt 0 ]; then
        unpack_archives
    fi
fi
if [ ${#fetched[@]} -gt 0 ]; then
    mkdir -p "$peers"
    npm install --prefix "$peers" --no-audit --no-fund --silent "${fetched[@]}" </dev/null
fi
create_login
find_missing
if [ ${#programs[@]} -gt 0 ] || [ ${#setup[@]} -gt 0 ]; then
    echo "still missing after installation: ${programs[*]} ${setup[*]}" >&2
    exit 1
fi
