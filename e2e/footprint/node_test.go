package footprint

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seen is what a node prints, shortened.
const seen = `### links
[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536},
 {"ifindex":7,"ifname":"spillway0","flags":["UP"],"mtu":1420,"linkinfo":{"info_kind":"tun","info_data":{"type":"tun"}}},
 {"ifindex":9,"ifname":"veth1","flags":[],"mtu":1500,"master":"cni0","address":"02:11","linkinfo":{"info_kind":"veth"}}]
### addresses
[{"ifname":"eth0","addr_info":[{"family":"inet","local":"172.30.0.2","prefixlen":24,"scope":"global"},{"local":"fe80::1","prefixlen":64,"scope":"link"}]}]
### routes4
10.101.0.0/16 dev spillway0 table 7001 proto 77 metric 10 mtu 1400
10.100.1.0/24 dev cni0 proto kernel scope link src 10.100.1.1 linkdown 
### routes6
fe80::/64 dev eth0 proto kernel metric 256 pref medium
fd00::/64 dev eth0 proto ra expires 29sec pref medium
### rules4
0:	from all lookup local
### rules6
### neighbours
100.64.0.2 dev spillway-nodes lladdr 02:00:00:00:00:01 PERMANENT
### forwarding
### nftables
table ip nat {
	chain post {
	}
}
table inet spillway {
	set pods {
		type ipv4_addr
		elements = { 10.1.2.4, 10.1.2.3,
			     10.1.2.5 expires 3s }
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr @pods accept
	}
}
# Warning: table ip x is managed by iptables-nft
### settings
/proc/sys/net/ipv4/ip_forward:1
/proc/sys/net/ipv4/conf/eth0/rp_filter:2
/proc/sys/net/ipv4/neigh/eth0/proxy_qlen:64
/proc/sys/net/netfilter/nf_conntrack_count:17
### mounts
43 42 0:30 /a /run/x rw,relatime shared:5 - tmpfs tmpfs rw
### listening
udp UNCONN 0 0 0.0.0.0:51820 0.0.0.0:* users:(("spillwayd",pid=12,fd=8))
udp UNCONN 0 0 [::]:4789 [::]:*
### files
f 600 /var/lib/spillway/node.json 
f 644 /run/x 
l 777 /etc/y z
### contents
0123456789abcdef  /var/lib/spillway/node.json
### processes
/opt/lab/bin/kubelet --v=2 
sh -c whatever 
`

func TestNode_IsReadFromWhatItsProgramsPrint(t *testing.T) {
	got, err := readNode(seen)
	if err != nil {
		t.Fatal(err)
	}
	want := Footprint{
		"link lo":                    {"mtu 65536", "up"},
		"link spillway0":             {"mtu 1420", "up", "kind tun"},
		"link veth1":                 {"mtu 1500", "kind veth", "master cni0"},
		"address eth0 172.30.0.2/24": {"scope global"},
		"route -4 10.101.0.0/16 dev spillway0 table 7001 proto 77 metric 10 mtu 1400": nil,
		"route -4 10.100.1.0/24 dev cni0 proto kernel scope link src 10.100.1.1":      nil,
		"route -6 fd00::/64 dev eth0 proto ra pref medium":                            nil,
		"rule -4 0: from all lookup local":                                            nil,
		"neighbour 100.64.0.2 dev spillway-nodes lladdr 02:00:00:00:00:01 PERMANENT":  nil,
		"nft table ip nat":                      nil,
		"nft table ip nat chain post":           nil,
		"nft table inet spillway":               nil,
		"nft table inet spillway set pods":      {"type ipv4_addr", "element 10.1.2.4", "element 10.1.2.3", "element 10.1.2.5"},
		"nft table inet spillway chain forward": {"type filter hook forward priority filter; policy accept;", "ip saddr @pods accept"},
		"setting net/ipv4/ip_forward":           {"1"},
		"settings of eth0":                      {"ipv4 conf rp_filter = 2", "ipv4 neigh proxy_qlen = 64"},
		"mount /run/x":                          {"tmpfs tmpfs /a"},
		"port udp 0.0.0.0:51820":                {"spillwayd"},
		"port udp [::]:4789":                    {"the kernel"},
		"file /var/lib/spillway/node.json":      {"f 600", "contents 0123456789ab"},
		"file /run/x":                           {"f 644"},
		"file /etc/y":                           {"l 777 → z"},
		"process /opt/lab/bin/kubelet --v=2":    nil,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestNode_WhatItCannotReadItSays(t *testing.T) {
	for name, text := range map[string]string{
		"a cut ruleset":     "### nftables\ntable ip nat {\n",
		"no list of links":  "### links\nDevice does not exist\n",
		"another section":   "### phase of the moon\nfull\n",
		"half an addresses": "### addresses\n[{\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readNode(text); err == nil {
				t.Error("no error")
			}
		})
	}
}
