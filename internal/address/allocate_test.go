package address

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ranges(texts ...string) []Range {
	var out []Range
	for _, s := range texts {
		always := s[0] == '!'
		if always {
			s = s[1:]
		}
		out = append(out, Range{prefix(s), always})
	}
	return out
}

func TestAllocate(t *testing.T) {
	for name, row := range map[string]struct {
		request Request
		want    []string
		err     error
	}{
		"nothing at all": {},
		"disjoint ranges are seen as they are": {
			request: Request{Ranges: ranges("10.1.0.0/16", "fd00:1::/48"), Own: prefixes("10.2.0.0/16", "fd00:2::/48")},
			want:    []string{"10.1.0.0/16 as 10.1.0.0/16", "fd00:1::/48 as fd00:1::/48"},
		},
		"a range that is ours too": {
			request: Request{Ranges: ranges("10.244.0.0/16"), Own: prefixes("10.244.0.0/16")},
			want:    []string{"10.244.0.0/16 as 100.83.0.0/16"},
		},
		"a range that overlaps a part of ours": {
			request: Request{Ranges: ranges("10.244.0.0/17"), Own: prefixes("10.244.64.0/20")},
			want:    []string{"10.244.0.0/17 as 100.73.0.0/17"},
		},
		"a range as which another peer is seen": {
			request: Request{Ranges: ranges("10.1.0.0/16"), Used: prefixes("10.1.128.0/17")},
			want:    []string{"10.1.0.0/16 as 100.100.0.0/16"},
		},
		"nodes are never seen as they are": {
			request: Request{Ranges: ranges("!192.168.1.0/24", "!10.96.0.1/32")},
			want:    []string{"10.96.0.1/32 as 100.116.205.155/32", "192.168.1.0/24 as 100.117.64.0/24"},
		},
		"what was before stays, though nothing overlaps any more": {
			request: Request{Ranges: ranges("10.1.0.0/16"), Previous: []Alias{{prefix("10.1.0.0/16"), prefix("100.99.0.0/16")}}},
			want:    []string{"10.1.0.0/16 as 100.99.0.0/16"},
		},
		"what was before goes when we have the range ourselves now": {
			request: Request{
				Ranges: ranges("10.1.0.0/16"), Own: prefixes("100.99.5.0/24"), Previous: []Alias{{prefix("10.1.0.0/16"), prefix("100.99.0.0/16")}},
			},
			want: []string{"10.1.0.0/16 as 10.1.0.0/16"},
		},
		"what was before of a range that is gone": {
			request: Request{Ranges: ranges("10.1.0.0/16"), Previous: []Alias{{prefix("10.7.0.0/16"), prefix("10.1.0.0/16")}}},
			want:    []string{"10.1.0.0/16 as 10.1.0.0/16"},
		},
		"what was before of another size": {
			request: Request{Ranges: ranges("10.1.0.0/16"), Previous: []Alias{{prefix("10.1.0.0/16"), prefix("100.64.0.0/17")}}},
			want:    []string{"10.1.0.0/16 as 10.1.0.0/16"},
		},
		"what is set by hand": {
			request: Request{
				Ranges: ranges("10.1.0.0/16"), Fixed: []Alias{{prefix("10.1.0.0/16"), prefix("10.200.0.0/16")}},
				Previous: []Alias{{prefix("10.1.0.0/16"), prefix("100.99.0.0/16")}},
			},
			want: []string{"10.1.0.0/16 as 10.200.0.0/16"},
		},
		"what is set by hand and overlaps ours": {
			request: Request{
				Ranges: ranges("10.1.0.0/16", "10.3.0.0/16"), Own: prefixes("10.200.5.0/24"),
				Fixed: []Alias{{prefix("10.1.0.0/16"), prefix("10.200.0.0/16")}},
			},
			want: []string{"10.3.0.0/16 as 10.3.0.0/16"}, err: ErrTaken,
		},
		"what is set by hand goes before what was before": {
			request: Request{
				Ranges: ranges("10.1.0.0/16", "10.2.0.0/16"), Fixed: []Alias{{prefix("10.2.0.0/16"), prefix("100.99.0.0/16")}},
				Previous: []Alias{{prefix("10.1.0.0/16"), prefix("100.99.0.0/16")}},
			},
			want: []string{"10.1.0.0/16 as 10.1.0.0/16", "10.2.0.0/16 as 100.99.0.0/16"},
		},
		"the first pool is too small": {
			request: Request{Ranges: ranges("10.0.0.0/8"), Own: prefixes("10.0.0.0/8")},
			want:    []string{"10.0.0.0/8 as 240.0.0.0/8"},
		},
		"the only pool is full": {
			request: Request{Ranges: ranges("10.0.0.0/16", "fd00:1::/64"), Own: prefixes("10.0.0.0/16"), Pools: prefixes("100.64.0.0/17")},
			want:    []string{"fd00:1::/64 as fd00:1::/64"}, err: ErrNoRoom,
		},
		"a range that no cluster can have": {
			request: Request{Ranges: ranges("10.1.0.0/16", "0.0.0.0/0")}, err: ErrRefused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			row.request.Peer = "id"
			got, err := Allocate(row.request)
			if !errors.Is(err, row.err) || row.err == nil && err != nil {
				t.Errorf("error %v, want %v", err, row.err)
			}
			if diff := cmp.Diff(row.want, texts(got)); diff != "" {
				t.Errorf("aliases (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAllocate_Properties: whatever the ranges are, everyone is seen somewhere, nothing overlaps, the order of the inputs
// does not matter, and a second call with the result of the first changes nothing.
func TestAllocate_Properties(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 500 {
		own := merged(randomRanges(random, random.IntN(8)))
		r := Request{
			Peer: fmt.Sprint("id-", i), Ranges: randomRanges(random, random.IntN(20)), Own: own, Used: merged(randomRanges(random, random.IntN(20))),
		}
		got, err := Allocate(r)
		if err != nil {
			t.Fatal(err)
		}
		expectSound(t, r, got)

		shuffled := r
		shuffled.Ranges, shuffled.Own, shuffled.Used = shuffle(random, r.Ranges), shuffle(random, r.Own), shuffle(random, r.Used)
		if again, _ := Allocate(shuffled); !slices.Equal(got, again) {
			t.Fatalf("in another order: %v, want %v", texts(again), texts(got))
		}
		restarted := shuffled
		restarted.Previous = shuffle(random, got)
		if again, _ := Allocate(restarted); !slices.Equal(got, again) {
			t.Fatalf("after a restart: %v, want %v", texts(again), texts(got))
		}
		fewer := restarted
		fewer.Used = nil // other peers went away
		if again, _ := Allocate(fewer); !slices.Equal(got, again) {
			t.Fatalf("after other peers went: %v, want %v", texts(again), texts(got))
		}
	}
}

func shuffle[T any](random *rand.Rand, list []T) []T {
	out := slices.Clone(list)
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// expectSound checks what every result must have.
func expectSound(t *testing.T, r Request, got []Alias) {
	t.Helper()
	if len(got) != len(r.Ranges) {
		t.Fatalf("%d of %d ranges are seen", len(got), len(r.Ranges))
	}
	for i, a := range got {
		if !fits(a) || a.As != a.As.Masked() || refusal(a.As) != "" {
			t.Fatalf("%s cannot be seen as %s", a.Range, a.As)
		}
		if other := overlapped(slices.Concat(r.Own, r.Used), a.As); other != nil {
			t.Fatalf("%s is seen as %s, which overlaps %s", a.Range, a.As, other)
		}
		for _, b := range got[:i] {
			if a.As.Overlaps(b.As) {
				t.Fatalf("%s is seen as %s and %s as %s", a.Range, a.As, b.Range, b.As)
			}
		}
		always := slices.ContainsFunc(r.Ranges, func(one Range) bool { return one.Prefix == a.Range && one.Always })
		if always && a.As == a.Range {
			t.Fatalf("%s is seen as it is", a.Range)
		}
	}
}

// cluster is one of several that peer with all others.
type cluster struct {
	id     string
	ranges []Range
	sees   map[string][]Alias // by id of the peer
}

func (c *cluster) own() []netip.Prefix { return merged(c.ranges) }

// look allocates for one peer, as a controller does that knows its others.
func (c *cluster) look(t *testing.T, at *cluster) {
	t.Helper()
	r := Request{Peer: at.id, Ranges: at.ranges, Own: c.own(), Previous: c.sees[at.id]}
	for id, aliases := range c.sees {
		for _, a := range aliases {
			if id != at.id {
				r.Used = append(r.Used, a.As)
			}
		}
	}
	got, err := Allocate(r)
	if err != nil {
		t.Fatal(err)
	}
	expectSound(t, r, got)
	c.sees[at.id] = got
}

// TestAllocate_SeveralClusters: in whatever order clusters meet, and whatever ranges they come to have later, every
// address of one that another reaches is one address there, and the way there and back gives the address itself.
func TestAllocate_SeveralClusters(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		clusters := make([]*cluster, 2+random.IntN(4))
		for i := range clusters {
			clusters[i] = &cluster{id: fmt.Sprint("id-", random.Uint64()), ranges: randomRanges(random, 1+random.IntN(6)), sees: map[string][]Alias{}}
		}
		for range 3 * len(clusters) * len(clusters) {
			a, b := clusters[random.IntN(len(clusters))], clusters[random.IntN(len(clusters))]
			if a != b {
				a.look(t, b)
			}
			if random.IntN(10) == 0 {
				a.ranges = randomRanges(random, 1+random.IntN(6))
			}
		}
		for range 2 { // what overlaps ranges that came later goes at the next look
			for _, a := range clusters {
				for _, b := range clusters {
					if a != b {
						a.look(t, b)
					}
				}
			}
		}
		for _, a := range clusters {
			expectOneMeaning(t, random, a, clusters)
		}
	}
}

// expectOneMeaning checks that no two addresses of peers, nor one of a peer and one of ours, are the same here.
func expectOneMeaning(t *testing.T, random *rand.Rand, a *cluster, all []*cluster) {
	t.Helper()
	var seen []netip.Prefix
	for _, b := range all {
		if a == b {
			continue
		}
		table, err := NewTable(a.sees[b.id])
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.ranges {
			real := randomAddr(random, r.Prefix)
			here, ok := table.Map(real)
			if back, _ := table.Back(here); !ok || back != real {
				t.Fatalf("%s of %s is %s in %s, and back %s", real, b.id, here, a.id, back)
			}
			if overlapped(a.own(), netip.PrefixFrom(here, here.BitLen())) != nil {
				t.Fatalf("%s of %s is our own %s in %s", real, b.id, here, a.id)
			}
		}
		for _, e := range a.sees[b.id] {
			if overlapped(seen, e.As) != nil {
				t.Fatalf("%s sees two things at %s", a.id, e.As)
			}
			seen = append(seen, e.As)
		}
	}
}

// TestAllocate_ManyPeers: the pools have room for 250 peers that all have the same ranges as we do.
func TestAllocate_ManyPeers(t *testing.T) {
	same := ranges("10.244.0.0/16", "!192.168.1.0/24", "!10.96.0.1/32")
	own := prefixes("10.244.0.0/16", "10.96.0.0/12", "192.168.1.0/24")
	var used []netip.Prefix
	for i := range 250 {
		got, err := Allocate(Request{Peer: fmt.Sprint("id-", i), Ranges: same, Own: own, Used: used})
		if err != nil {
			t.Fatalf("peer %d: %v", i, err)
		}
		for _, a := range got {
			if overlapped(slices.Concat(used, own), a.As) != nil {
				t.Fatalf("peer %d: %s as %s overlaps", i, a.Range, a.As)
			}
			used = append(used, a.As)
		}
	}
}

// FuzzAllocate looks for input that breaks what must hold.
func FuzzAllocate(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		random := rand.New(rand.NewPCG(a, b))
		r := Request{Peer: "id", Ranges: randomRanges(random, random.IntN(16)), Own: merged(randomRanges(random, random.IntN(16)))}
		got, err := Allocate(r)
		if err != nil {
			t.Fatal(err)
		}
		expectSound(t, r, got)
	})
}
