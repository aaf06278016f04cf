# shellcheck shell=bash disable=SC2154
# deploy/run --demo. Sourced by it, as root.
#
#    client ──────────── relay host ──────────── target
#    10.78.1.2     10.78.1.1   10.78.2.1      10.78.2.2: nginx, unbound
#
# No route leads from the client to the target or back.

octets=$((48 * 1024 * 1024))
rate=16M # of the download, so that there is time to look at it

in_place()
{
    local place=$1
    shift
    ip netns exec "$prefix-$place" "$@"
}

# In the background, until clean_up(); $! is its pid.
start_in()
{
    local place=$1
    shift
    ip netns exec "$prefix-$place" setpriv --pdeathsig TERM -- "$@" </dev/null &
    pids+=($!)
}

# Namespaces of demonstrations whose process is gone.
sweep()
{
    local name pid
    ip netns list | while read -r name _; do
        case $name in
        sockst-demo-*)
            pid=${name#sockst-demo-}
            [ -e "/proc/${pid%%-*}" ] || ip netns delete "$name"
            ;;
        esac
    done
}

make_places()
{
    local place
    prefix=sockst-demo-$$
    sweep
    for place in client relay target; do
        namespaces+=("$prefix-$place")
        ip netns add "$prefix-$place"
        ip -n "$prefix-$place" link set lo up
    done
    ip -n "$prefix-relay" link add client0 type veth peer name relay0 netns "$prefix-client"
    ip -n "$prefix-relay" link add target0 type veth peer name relay0 netns "$prefix-target"
    ip -n "$prefix-relay" address add 10.78.1.1/24 dev client0
    ip -n "$prefix-relay" address add 10.78.2.1/24 dev target0
    ip -n "$prefix-client" address add 10.78.1.2/24 dev relay0
    ip -n "$prefix-target" address add 10.78.2.2/24 dev relay0
    ip -n "$prefix-relay" link set client0 up
    ip -n "$prefix-relay" link set target0 up
    ip -n "$prefix-client" link set relay0 up
    ip -n "$prefix-target" link set relay0 up
    in_place relay sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'
    if ip -n "$prefix-client" route get 10.78.2.2 >/dev/null 2>&1 ||
        ip -n "$prefix-target" route get 10.78.1.2 >/dev/null 2>&1; then
        die "client and target have a route to each other: the demonstration would prove nothing"
    fi
}

start_nginx()
{
    mkdir "$directory/www"
    head -c "$octets" /dev/urandom >"$directory/www/file"
    cat >"$directory/nginx.conf" <<END
user root;
daemon off;
pid $directory/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path $directory/nginx-body;
    proxy_temp_path $directory/nginx-proxy;
    fastcgi_temp_path $directory/nginx-fastcgi;
    uwsgi_temp_path $directory/nginx-uwsgi;
    scgi_temp_path $directory/nginx-scgi;
    server { listen 10.78.2.2:80; root $directory/www; }
}
END
    start_in target nginx -p "$directory" -c "$directory/nginx.conf" 2>"$directory/nginx.log"
}

start_unbound()
{
    cat >"$directory/unbound.conf" <<END
server:
    interface: 10.78.2.2
    access-control: 10.78.0.0/16 allow
    username: ""
    chroot: ""
    directory: "$directory"
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    module-config: "iterator"
    local-zone: "example.org." static
    local-data: "www.example.org. 300 IN A 192.0.2.80"
    local-data: "www.example.org. 300 IN AAAA 2001:db8::80"
    local-data: 'www.example.org. 300 IN TXT "relayed by Sockst"'
remote-control:
    control-enable: no
END
    start_in target unbound -d -c "$directory/unbound.conf" 2>"$directory/unbound.log"
}

# answers PLACE SERVER PORT: the records of the example's name, sorted.
answers()
{
    local type
    for type in A AAAA TXT; do
        in_place "$1" dig +noall +answer +tries=10 +time=1 "@$2" -p "$3" www.example.org "$type" \
            </dev/null || true
    done | tr -s '\t ' ' ' | sort
}

# until_true SECONDS COMMAND…
until_true()
{
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

start_client()
{
    local proxy=socks5t://10.78.1.1:1080
    start_in client "$sockst" --proxy "$proxy" forward tcp 127.0.0.1:8080 10.78.2.2:80
    start_in client "$sockst" --proxy "$proxy" forward udp 127.0.0.1:5353 10.78.2.2:53
}

relay_table()
{
    "$relayctl" --dir "$directory/admin" relays
}

download()
{
    start_in client curl --silent --show-error --fail --limit-rate "$rate" --max-time 120 \
        --retry 100 --retry-delay 0 --retry-connrefused --retry-max-time 15 \
        --output "$directory/downloaded" http://127.0.0.1:8080/file
}

demo()
{
    local direct relayed sent received status=0 curl
    say "three network namespaces: client, relay host, target; no route from client to target"
    make_places
    say "in the target: nginx with a file of $((octets >> 20)) MiB, unbound with a name"
    start_nginx
    start_unbound
    until_true 15 in_place target dig +time=1 +tries=1 @10.78.2.2 www.example.org ||
        die "unbound did not start: $(cat "$directory/unbound.log")"
    until_true 15 in_place target curl --silent --head http://10.78.2.2/file ||
        die "nginx did not start: $(cat "$directory/nginx.log")"
    say "on the relay host: relayd for tcp, relayd for udp, socksd"
    start_all "$prefix-relay" 10.78.1.1 warning
    say "in the client: sockst forwards local ports through TRANSPARENT associations"
    start_client

    say "HTTP download and DNS queries through the relays"
    download
    curl=$!
    relayed=$(answers client 127.0.0.1 5353)
    until_true 15 eval 'relay_table | grep -q tcp' || true
    say "the relay table meanwhile"
    relay_table
    wait "$curl" || {
        echo "curl failed" >&2
        status=1
    }

    sent=$(sha256sum <"$directory/www/file")
    received=$(sha256sum <"$directory/downloaded" || true)
    direct=$(answers target 10.78.2.2 53)
    printf '\nfile at the target:  %s\nfile at the client:  %s\n' "${sent%% *}" "${received%% *}"
    printf '\nDNS asked at the target:\n%s\nDNS asked by the client:\n%s\n\n' "$direct" "$relayed"
    if [ "$sent" != "$received" ]; then
        echo "the file differs" >&2
        status=1
    fi
    if [ -z "$direct" ] || [ "$direct" != "$relayed" ]; then
        echo "the DNS answers differ" >&2
        status=1
    fi
    if [ "$status" -eq 0 ]; then
        say "all as it should be"
    fi
    exit "$status"
}
