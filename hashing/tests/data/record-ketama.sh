#!/usr/bin/env bash
# Records what a real nginx chooses with `hash $key consistent`: writes ketama-nginx.csv beside this script.
#
# Five servers on addresses of the loopback network answer their own address; a sixth proxies to them, hashed by
# the query's key. The ports are whatever is free: they are hashed too, so the CSV names the servers it is about.
# Needs nginx and curl, no privileges. Leaves nothing behind, and ends only the nginx that it started.
set -euo pipefail

nginx=${NGINX:-$(command -v nginx || echo /usr/sbin/nginx)}
out=$(cd "$(dirname "$0")" && pwd)/ketama-nginx.csv
dir=$(mktemp -d)
pid=
finish() {
    if [ -n "$pid" ]; then
        kill -QUIT "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap finish EXIT

weights=(1 3 1 2 1)
free_port() { # an address; a port that nobody answers on
    local port
    while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/$1/$port") 2>/dev/null; do :; done
    echo "$port"
}

servers=() upstream='' backends=''
for i in "${!weights[@]}"; do
    address=127.0.0.$((i + 1))
    server=$address:$(free_port "$address")
    servers+=("$server")
    upstream+="server $server weight=${weights[i]}; "
    backends+="server { listen $server; location / { return 200 \"\$arg_key,\$server_addr:\$server_port\\n\"; } }
"
done
front=127.0.0.1:$(free_port 127.0.0.1)

cat >"$dir/nginx.conf" <<CONF
daemon off;
master_process off;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    upstream ring { hash \$arg_key consistent; $upstream}
    server { listen $front; location / { proxy_pass http://ring; } }
    $backends
}
CONF

"$nginx" -e "$dir/error.log" -c "$dir/nginx.conf" -p "$dir" &
pid=$!
for _ in $(seq 100); do
    curl -sf -o /dev/null "http://$front/?key=ready" && break
    kill -0 "$pid" 2>/dev/null || { cat "$dir/error.log" >&2; exit 1; }
    sleep 0.05
done

{
    echo "# $("$nginx" -v 2>&1), recorded by record-ketama.sh: key,server; the servers with their weights:"
    for i in "${!servers[@]}"; do echo "# server,${servers[i]},${weights[i]}"; done
    # Numbers as the contract's client sends them, names, and some that share long prefixes.
    curl -sf "http://$front/?key=[100000-100399]"
    curl -sf "http://$front/?key=session-[1-300]"
    curl -sf "http://$front/?key=/catalogue/item/[5000-5299]/picture.jpg"
} >"$dir/answers.csv"

count=$(grep -vc '^#' "$dir/answers.csv")
[ "$count" -eq 1000 ] || { echo "recorded $count answers instead of 1000" >&2; exit 1; }
mv "$dir/answers.csv" "$out"
echo "recorded $count answers in $out"
