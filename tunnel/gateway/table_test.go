package gateway

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAssign(t *testing.T) {
	for name, row := range map[string]struct {
		candidates string // name, with "!" when not settled
		holders    string // per slot, "-" is free
		want       string // per slot, "." stays
	}{
		"the first gateway takes all":              {"a", "- - -", "a a a"},
		"free slots are spread":                    {"a b", "- - -", "a b a"},
		"more gateways than slots":                 {"a b c", "- -", "a b"},
		"nothing to do":                            {"a b c", "a b", ". ."},
		"a standby takes what is free":             {"a c", "a -", ". c"},
		"with no standby, the one with fewest":     {"a b", "a a b -", ". . . b"},
		"one that returns takes the extra slot":    {"a b", "a a", ". b"},
		"only when it is settled":                  {"a b!", "a a", ". ."},
		"but what is free at once":                 {"a b!", "a -", ". b"},
		"never the only slot of another":           {"a b c", "a b", ". ."},
		"two return":                               {"a b c", "a a a", ". c b"},
		"only to empty hands":                      {"a b", "a a a b", ". . . ."},
		"a holder that is not here keeps its slot": {"a b", "x a", ". ."},
		"nobody there":                             {"", "- -", ". ."},
	} {
		t.Run(name, func(t *testing.T) {
			var candidates []candidate
			for _, c := range strings.Fields(row.candidates) {
				candidates = append(candidates, candidate{strings.TrimSuffix(c, "!"), !strings.HasSuffix(c, "!")})
			}
			holders := strings.Fields(strings.ReplaceAll(row.holders, "-", "_"))
			for n, h := range holders {
				holders[n] = strings.Trim(h, "_")
			}
			takes := assign(candidates, holders)
			got := make([]string, len(holders))
			for slot := range got {
				got[slot] = "."
				if to, ok := takes[slot]; ok {
					got[slot] = to
				}
			}
			if diff := cmp.Diff(row.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("assign (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMajority(t *testing.T) {
	for _, row := range []struct {
		present, known int
		want           bool
	}{{1, 1, true}, {1, 2, true}, {2, 2, true}, {1, 3, false}, {2, 3, true}, {2, 4, false}, {3, 4, true}, {0, 0, false}, {1, 0, true}} {
		if got := majority(row.present, row.known); got != row.want {
			t.Errorf("majority(%d of %d) = %v, want %v", row.present, row.known, got, row.want)
		}
	}
}

// newTestTable returns the table of gateway a, with gateways a, b, c of which b and c are there, two slots, long after start.
func newTestTable(slots int) (*table, time.Time) {
	start := time.Unix(1000, 0)
	tab := newTable("a", true, 1, start)
	tab.known, tab.gateways, tab.slots = true, []string{"a", "b", "c"}, slots
	tab.join("b", member{since: start})
	tab.join("c", member{since: start})
	return tab, start.Add(time.Minute)
}

func claims(of ...uint64) map[int]uint64 {
	m := map[int]uint64{}
	for slot, epoch := range of {
		if epoch > 0 {
			m[slot] = epoch
		}
	}
	return m
}

func TestTable_HigherEpochEndsAClaimAtOnce(t *testing.T) {
	for name, row := range map[string]struct {
		node string
		said uint64
		want bool // still ours
	}{
		"higher":                 {"b", 8, false},
		"lower":                  {"b", 6, true},
		"equal, from c: a first": {"c", 7, true},
	} {
		t.Run(name, func(t *testing.T) {
			tab, now := newTestTable(1)
			tab.pending[0] = Holder{}
			if !tab.taken(0, 7, nil, now) {
				t.Fatal("not taken")
			}
			tab.hear(row.node, announcement{session: 2, version: 1, claims: claims(row.said)}, now)
			if _, ok := tab.own[0]; ok != row.want {
				t.Errorf("ours: %v, want %v", ok, row.want)
			}
			if h := tab.holders(now)[0]; (h.Node == "a") != row.want {
				t.Errorf("holder %+v", h)
			}
		})
	}
}

func TestTable_TakesWhatIsFree(t *testing.T) {
	tab, now := newTestTable(2)
	tab.hear("b", announcement{session: 2, version: 1, claims: claims(3)}, now)
	tab.hear("c", announcement{session: 3, version: 1, claims: claims(0, 4)}, now)
	if due := tab.due(now); due != nil {
		t.Fatalf("due %v though all is held", due)
	}
	tab.leave("c")
	if h := tab.holders(now)[1]; h.Node != "c" {
		t.Errorf("holder %+v, want c until there is another", h)
	}
	if diff := cmp.Diff([]int{1}, tab.due(now)); diff != "" {
		t.Fatalf("due (-want +got):\n%s", diff)
	}
	if due := tab.due(now); due != nil {
		t.Errorf("due %v while the fence is being asked", due)
	}
	if !tab.taken(1, 2, nil, now) || tab.own[1].epoch != 5 {
		t.Errorf("claims %+v, want an epoch above that of c", tab.own)
	}
}

func TestTable_Fence(t *testing.T) {
	refused := errors.New("somebody else was faster")
	for name, row := range map[string]struct {
		err     error
		gone    []string // gateways
		raced   uint64   // epoch that b claims meanwhile
		epoch   uint64
		want    uint64 // epoch of our claim; 0: none
		unknown bool   // the gateways are not known
	}{
		"granted":                                {epoch: 9, want: 9},
		"refused":                                {err: refused},
		"out of reach, with most":                {err: ErrUnreachable, gone: []string{"c"}, want: 6},
		"out of reach, alone of three":           {err: ErrUnreachable, gone: []string{"b", "c"}},
		"slow, with most":                        {err: context.DeadlineExceeded, want: 6},
		"granted, but another was granted later": {epoch: 9, raced: 10},
		"granted after another":                  {epoch: 9, raced: 8, want: 9},
		"out of reach and another has claimed":   {err: ErrUnreachable, raced: 8},
	} {
		t.Run(name, func(t *testing.T) {
			tab, now := newTestTable(1)
			tab.last[0] = Holder{Node: "c", Epoch: 5}
			tab.hear("c", announcement{session: 2, version: 1}, now)
			if row.gone != nil {
				for _, name := range row.gone {
					tab.leave(name)
				}
			}
			if diff := cmp.Diff([]int{0}, tab.due(now)); diff != "" {
				t.Fatalf("due (-want +got):\n%s", diff)
			}
			if row.raced > 0 {
				tab.hear("b", announcement{session: 2, version: 1, claims: claims(row.raced)}, now)
			}
			if ok := tab.taken(0, row.epoch, row.err, now); ok != (row.want > 0) || tab.own[0].epoch != row.want {
				t.Errorf("taken %v, own %+v, want epoch %d", ok, tab.own, row.want)
			}
			if row.want == 0 && row.err != nil && row.raced == 0 {
				if due := tab.due(now); due != nil {
					t.Errorf("due %v again at once", due)
				}
				if due := tab.due(now.Add(time.Second)); len(due) != 1 {
					t.Error("not tried again")
				}
			}
		})
	}
}

func TestTable_ClaimWithoutFenceIsMadeGood(t *testing.T) {
	tab, now := newTestTable(1)
	tab.pending[0] = Holder{}
	tab.taken(0, 0, ErrUnreachable, now)
	if due := tab.due(now.Add(time.Second)); due != nil {
		t.Errorf("due %v at once", due)
	}
	now = now.Add(fenceAgain)
	if due := tab.due(now); len(due) != 1 {
		t.Fatal("the fence is not asked again")
	}
	if !tab.taken(0, 17, nil, now) || tab.own[0] != (ownClaim{epoch: 17, fenced: true}) || tab.holders(now)[0].Epoch != 17 {
		t.Errorf("own %+v", tab.own)
	}
}

func TestTable_StartsPatiently(t *testing.T) {
	start := time.Unix(1000, 0)
	tab := newTable("a", true, 1, start)
	if due := tab.due(start); due != nil {
		t.Errorf("due %v of a cluster that is not known", due)
	}
	tab.known, tab.gateways, tab.slots = true, []string{"a", "b"}, 2
	if due := tab.due(start.Add(startGrace - 1)); due != nil {
		t.Errorf("due %v before the others had time to appear", due)
	}
	tab.observe(1, Holder{Node: "b", Epoch: 4}, start) // hearsay
	if diff := cmp.Diff([]int{0}, tab.due(start.Add(startGrace))); diff != "" {
		t.Errorf("due (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{1}, tab.due(start.Add(unknownGrace))); diff != "" {
		t.Errorf("later due (-want +got):\n%s", diff)
	}
}

func TestTable_MemberThatIsBackWithoutItsSlot(t *testing.T) {
	tab, now := newTestTable(1)
	tab.hear("b", announcement{session: 2, version: 9, claims: claims(3)}, now)
	tab.hear("b", announcement{session: 2, version: 8}, now.Add(time.Minute)) // late
	if h := tab.holders(now.Add(time.Minute))[0]; h.Node != "b" {
		t.Fatalf("holder %+v", h)
	}
	tab.hear("b", announcement{session: 5, version: 1}, now.Add(time.Minute)) // restarted
	if h := tab.holders(now.Add(time.Minute))[0]; h != (Holder{Epoch: 3}) {
		t.Errorf("holder %+v, want nobody", h)
	}
}

func TestTable_DropIsNotTakenBackSoon(t *testing.T) {
	tab, now := newTestTable(1)
	for n, wait := range []time.Duration{dropBackoff, 2 * dropBackoff} {
		tab.pending[0] = tab.last[0]
		tab.taken(0, uint64(7+n), nil, now)
		tab.drop(0, now)
		if h := tab.holders(now)[0]; h.Node != "" {
			t.Errorf("holder %+v", h)
		}
		if due := tab.due(now.Add(wait - 1)); due != nil {
			t.Errorf("due %v too soon", due)
		}
		now = now.Add(wait)
		if due := tab.due(now); len(due) != 1 {
			t.Error("not due after the wait")
		}
	}
}

func TestTable_GivesUp(t *testing.T) {
	tab, now := newTestTable(2)
	for slot := range 2 {
		tab.pending[slot] = Holder{}
		tab.taken(slot, 7, nil, now)
	}
	tab.slots = 1
	tab.due(now)
	if diff := cmp.Diff(claims(7), tab.announce().claims); diff != "" {
		t.Errorf("with one slot (-want +got):\n%s", diff)
	}
	tab.gateways = []string{"b", "c"}
	tab.due(now)
	if len(tab.own) != 1 {
		t.Error("gave up before others could take over")
	}
	tab.due(now.Add(unfitTime))
	if len(tab.own) != 0 {
		t.Error("keeps a slot though it is no gateway")
	}
}

func TestTable_LostIsWhomNobodyReaches(t *testing.T) {
	tab, now := newTestTable(1)
	tab.hear("b", announcement{session: 2, version: 1, claims: claims(3)}, now)
	if diff := cmp.Diff([]string{"b"}, tab.watched()); diff != "" {
		t.Errorf("watched (-want +got):\n%s", diff)
	}
	asks := 0
	for range lostAfter {
		if tab.pinged("b", false, now) {
			asks++
		}
	}
	if asks != lostAfter-askAfter+1 || !tab.members["b"].lost || tab.neighbours("b", 3)[0] != "c" {
		t.Errorf("asked %d times, %+v", asks, tab.members["b"])
	}
	if len(tab.due(now)) != 1 && tab.pending[0].Node == "" {
		t.Error("nobody takes the slot")
	}
	tab.vouched("b", now)
	tab.pinged("b", false, now.Add(sparedFor-1))
	if tab.members["b"].lost {
		t.Error("lost though another reaches it")
	}
	tab.pinged("b", false, now.Add(sparedFor))
	if !tab.members["b"].lost {
		t.Error("not lost")
	}
	tab.pinged("b", true, now)
	if tab.members["b"].lost {
		t.Error("lost though it answers")
	}
}

func TestAnnouncement_ReadsWhatItWrites(t *testing.T) {
	want := announcement{session: 4711, version: 12, gateway: true, leaving: true, claims: map[int]uint64{}}
	for slot := range MaxSlots {
		want.claims[slot] = 1<<63 + uint64(slot)
	}
	b := want.encode()
	got, err := decodeAnnouncement(b)
	if err != nil || got.session != want.session || got.version != want.version || !got.gateway || !got.leaving || !maps.Equal(got.claims, want.claims) {
		t.Errorf("%+v, %v", got, err)
	}
	if len(b) > 512 {
		t.Errorf("%d bytes, memberlist takes 512", len(b))
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(announcement{session: 1, claims: claims(1, 2)}.encode())
	f.Add(encodeHolders([]Holder{{"a", 1}, {"", 2}}))
	f.Add(note{kind: noteAsk, from: "a", about: "b"}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodeAnnouncement(b); err == nil {
			if again, err := decodeAnnouncement(a.encode()); err != nil || !maps.Equal(a.claims, again.claims) {
				t.Errorf("%+v became %+v, %v", a, again, err)
			}
		}
		if h, err := decodeHolders(b); err == nil {
			if again, err := decodeHolders(encodeHolders(h)); err != nil || !cmp.Equal(h, again) {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
		}
		if n, err := decodeNote(b); err == nil {
			if again, err := decodeNote(n.encode()); err != nil || again.from != n.from || again.about != n.about {
				t.Errorf("%+v became %+v, %v", n, again, err)
			}
		}
	})
}
