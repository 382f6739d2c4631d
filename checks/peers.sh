#!/usr/bin/env bash
# Installs, as root on Debian, the real programs that tests, demo and benchmarks run against. Elsewhere it only says so.
set -euo pipefail
# Everybody may open it where udev runs: that makes nobody an interface, but lets a service use the one that it may have.
if [ "$(id -u)" -eq 0 ] && [ -c /dev/net/tun ]; then chmod 666 /dev/net/tun; fi
declare -A package=(
  [wireguard-go]=wireguard-go [wg]=wireguard-tools [iperf3]=iperf3 [nft]=nftables [ethtool]=ethtool
  [ip]=iproute2 [ping]=iputils-ping [cc]=gcc [tcpdump]=tcpdump [curl]=curl [unshare]=util-linux
  [setpriv]=util-linux [systemd-analyze]=systemd [jq]=jq [less]=less
  [ssh]=openssh-client [rsync]=rsync [nginx]=nginx-light [openssl]=openssl
  [dnsmasq]=dnsmasq-base [socksify]=dante-client [git]=git [nc.openbsd]=netcat-openbsd
)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null 2>&1 || missing+=("${package[$program]}")
done
ldconfig -p 2>/dev/null | grep -q libseccomp.so.2 || missing+=(libseccomp2)
[ -f /usr/include/openssl/evp.h ] || missing+=(libssl-dev)
[ -x /usr/lib/openssh/sftp-server ] || missing+=(openssh-sftp-server)
[ -x /usr/sbin/sshd ] || missing+=(openssh-server)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "==> installing ${missing[*]}"
  apt-get update -qq
  # Tests start servers with configurations of their own: none is to run on this machine because of them.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; trap 'rm -f $policy' EXIT; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  case " ${missing[*]} " in *" openssh-server "*) systemctl disable --quiet ssh.service 2>/dev/null || true ;; esac
  case " ${missing[*]} " in *" nginx-light "*) systemctl disable --quiet nginx.service 2>/dev/null || true ;; esac
else
  echo "==> not installed: ${missing[*]} (only root on Debian can; what needs them says so)"
fi
