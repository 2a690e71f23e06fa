package address

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, prefix(s))
	}
	return out
}

// text writes what cmp cannot look into.
func text[T interface{ String() string }](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

func texts(list []Alias) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.Range.String()+" as "+a.As.String())
	}
	return out
}

func TestMap(t *testing.T) {
	for name, row := range map[string]struct{ addr, from, to, want string }{
		"host bits stay":           {"10.244.3.7", "10.244.0.0/16", "100.71.0.0/16", "100.71.3.7"},
		"a size between bytes":     {"10.244.201.7", "10.244.128.0/17", "100.71.0.0/17", "100.71.73.7"},
		"one address":              {"10.96.0.1", "10.96.0.1/32", "100.127.3.9/32", "100.127.3.9"},
		"IPv6":                     {"fd00:1::42", "fd00:1::/64", "fd12:3456:789a:5::/64", "fd12:3456:789a:5::42"},
		"IPv6 between bytes":       {"fd00:1:0:9::42", "fd00:1::/60", "fd00:2::/60", "fd00:2:0:9::42"},
		"not in the range":         {"10.245.0.1", "10.244.0.0/16", "100.71.0.0/16", ""},
		"of another size":          {"10.244.0.1", "10.244.0.0/16", "100.71.0.0/17", ""},
		"of another family":        {"10.244.0.1", "10.244.0.0/16", "fd00::/16", ""},
		"an IPv6 address for IPv4": {"::ffff:10.244.0.1", "10.244.0.0/16", "100.71.0.0/16", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Map(netip.MustParseAddr(row.addr), prefix(row.from), prefix(row.to))
			if want := row.want; ok != (want != "") || ok && got.String() != want {
				t.Errorf("%s is seen as %s (%t), want %q", row.addr, got, ok, want)
			}
		})
	}
}

// TestTable_ThereAndBack: an address of a range has one other name, its host bits stay, and no two share one.
func TestTable_ThereAndBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		aliases, err := Allocate(Request{Peer: "id", Ranges: randomRanges(random, 1+random.IntN(12)), Own: merged(randomRanges(random, 4))})
		if err != nil {
			t.Fatal(err)
		}
		table, err := NewTable(aliases)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[netip.Addr]netip.Addr{}
		for _, a := range aliases {
			for range 20 {
				there := randomAddr(random, a.Range)
				here, ok := table.Map(there)
				if !ok || !a.As.Contains(here) {
					t.Fatalf("%s of %s is seen as %s, not in %s", there, a.Range, here, a.As)
				}
				if back, ok := table.Back(here); !ok || back != there {
					t.Fatalf("%s is seen as %s, which is %s", there, here, back)
				}
				if netip.PrefixFrom(there, a.Range.Bits()).Masked() == netip.PrefixFrom(here, a.As.Bits()).Masked() && there != here {
					t.Fatalf("host bits of %s became %s", there, here)
				}
				if other, taken := seen[here]; taken && other != there {
					t.Fatalf("%s is both %s and %s", here, other, there)
				}
				seen[here] = there
			}
		}
	}
}

func TestTable_Edges(t *testing.T) {
	table, err := NewTable([]Alias{{prefix("10.1.0.0/16"), prefix("100.64.0.0/16")}, {prefix("10.3.0.0/16"), prefix("10.3.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.1.0.0": "100.64.0.0", "10.1.255.255": "100.64.255.255", "10.2.0.0": "", "10.0.255.255": "", "10.3.1.1": "10.3.1.1",
		"0.0.0.0": "", "255.255.255.255": "", "fd00::1": "", "::ffff:10.1.0.9": "100.64.0.9",
	} {
		got, ok := table.Map(netip.MustParseAddr(addr))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s is seen as %s (%t), want %q", addr, got, ok, want)
		}
	}
	if _, ok := (&Table{}).Map(netip.MustParseAddr("10.1.0.1")); ok {
		t.Error("the empty table maps something")
	}
}

func TestNewTable_Refuses(t *testing.T) {
	for name, list := range map[string][]Alias{
		"two names for an address": {{prefix("10.0.0.0/8"), prefix("100.0.0.0/8")}, {prefix("10.1.0.0/16"), prefix("100.64.0.0/16")}},
		"two addresses for a name": {{prefix("10.1.0.0/16"), prefix("100.64.0.0/16")}, {prefix("10.2.0.0/16"), prefix("100.64.0.0/16")}},
		"sizes that differ":        {{prefix("10.1.0.0/16"), prefix("100.64.0.0/17")}},
		"no range":                 {{}},
	} {
		if _, err := NewTable(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCheck(t *testing.T) {
	for refused, why := range map[string]string{
		"0.0.0.0/0": "the default route", "::/0": "the default route", "10.0.0.0/7": "larger than /8", "fd00::/15": "larger than /16",
		"127.0.0.0/8": "loopback", "127.1.2.3/32": "loopback", "::1/128": "loopback", "224.0.0.0/8": "multicast", "ff02::/16": "multicast",
		"169.254.169.254/32": "link-local", "fe80::/64": "link-local", "0.0.0.0/8": "this network", "10.1.2.3/16": "not written",
		"255.255.255.255/32": "broadcast", "::ffff:10.0.0.0/104": "not written", "168.0.0.0/6": "larger",
	} {
		if err := Check(prefixes(refused)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s (%s) was not refused: %v", refused, why, err)
		}
	}
	for _, fine := range []string{"10.0.0.0/8", "10.96.0.1/32", "192.168.1.0/24", "100.64.0.0/10", "fd00::/16", "2001:db8::/32", "203.0.113.0/24"} {
		if err := Check(prefixes(fine)); err != nil {
			t.Errorf("%s was refused: %v", fine, err)
		}
	}
	if err := Check(prefixes("10.0.0.0/8", "10.1.0.0/16")); !errors.Is(err, ErrRefused) {
		t.Errorf("overlapping ranges were not refused: %v", err)
	}
	many := make([]netip.Prefix, MaxRanges+1)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16)
	}
	if err := Check(many); !errors.Is(err, ErrRefused) {
		t.Errorf("%d ranges were not refused: %v", len(many), err)
	}
	if err := Check(many[1:]); err != nil {
		t.Errorf("%d ranges were refused: %v", MaxRanges, err)
	}
}

func TestMerge(t *testing.T) {
	for name, row := range map[string]struct{ in, want []string }{
		"nothing":                 {nil, nil},
		"halves":                  {[]string{"10.0.1.0/24", "10.0.0.0/24"}, []string{"10.0.0.0/23"}},
		"halves of halves":        {[]string{"10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/23"}, []string{"10.0.0.0/22"}},
		"neighbours of two":       {[]string{"10.0.1.0/24", "10.0.2.0/24"}, []string{"10.0.1.0/24", "10.0.2.0/24"}},
		"one within another":      {[]string{"10.0.5.0/24", "10.0.0.0/16", "10.0.5.0/24"}, []string{"10.0.0.0/16"}},
		"host bits are no matter": {[]string{"10.0.5.9/24"}, []string{"10.0.5.0/24"}},
		"families":                {[]string{"fd00::/64", "10.0.0.0/24", "fd00:0:0:1::/64"}, []string{"10.0.0.0/24", "fd00::/63"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, text(Merge(prefixes(row.in...)))); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCover(t *testing.T) {
	for want, in := range map[string][]string{
		"10.244.0.0/22": {"10.244.0.0/24", "10.244.1.0/24", "10.244.3.0/24"}, "10.244.7.0/24": {"10.244.7.0/24"},
		"fd00:1::/62": {"fd00:1::/64", "fd00:1:0:2::/64"}, "0.0.0.0/0": {"10.0.0.0/8", "192.168.0.0/16"},
	} {
		if got := Cover(prefixes(in...)).String(); got != want {
			t.Errorf("the cover of %v is %s, want %s", in, got, want)
		}
	}
}

// randomRanges are ranges that a cluster may have, close together so that clusters often collide. They do not overlap.
func randomRanges(random *rand.Rand, n int) []Range {
	var out []Range
	for len(out) < n {
		var p netip.Prefix
		if random.IntN(3) > 0 {
			a := [4]byte{10, byte(random.IntN(32)), byte(random.IntN(256)), byte(random.IntN(256))}
			if random.IntN(8) == 0 {
				a[0], a[1] = 100, byte(64+random.IntN(64))
			}
			p = netip.PrefixFrom(netip.AddrFrom4(a), 12+random.IntN(21)).Masked()
		} else {
			a := [16]byte{0: 0xfd, 1: byte(random.IntN(2)), 7: byte(random.IntN(8)), 15: byte(random.IntN(256))}
			p = netip.PrefixFrom(netip.AddrFrom16(a), 40+random.IntN(89)).Masked()
		}
		if !slices.ContainsFunc(out, func(r Range) bool { return r.Overlaps(p) }) {
			out = append(out, Range{p, random.IntN(3) == 0})
		}
	}
	return out
}

func merged(ranges []Range) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		out = append(out, r.Prefix)
	}
	return Merge(out)
}

func randomAddr(random *rand.Rand, in netip.Prefix) netip.Addr {
	bytes := in.Addr().AsSlice()
	for i := range bytes {
		fixed := min(8, max(0, in.Bits()-8*i))
		bytes[i] |= byte(random.Uint32()) & byte(0xff>>fixed)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}
