package endpoint

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// event is something that a choice is told at a time.
type event struct {
	at   time.Duration
	tell func(c *choice, now time.Time)
}

// targetsOf makes targets of names; each has one address.
func targetsOf(names string) []target {
	var out []target
	for _, name := range strings.Fields(names) {
		out = append(out, target{name, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, name[0]}), 51820)})
	}
	return out
}

func set(at time.Duration, udp, tls string) event {
	return event{at, func(c *choice, now time.Time) { c.set(now, targetsOf(udp), strings.Fields(tls), udp != "") }}
}

// unresolved announces UDP candidates whose addresses are not known.
func unresolved(at time.Duration, tls string) event {
	return event{at, func(c *choice, now time.Time) { c.set(now, nil, strings.Fields(tls), true) }}
}

func up(at time.Duration) event {
	return event{at, func(c *choice, now time.Time) { c.report(now, true) }}
}

func down(at time.Duration) event {
	return event{at, func(c *choice, now time.Time) { c.report(now, false) }}
}

// story lets a choice live through events and tells when it changed. UDP passes to the targets named in open.
func story(events []event, until time.Duration, open string) string {
	var b strings.Builder
	var c choice
	said := "nothing"
	start := time.Unix(1000, 0)
	for now := start; ; {
		for len(events) > 0 && !start.Add(events[0].at).After(now) {
			events[0].tell(&c, now)
			events = events[1:]
		}
		if c.step(now) {
			fmt.Fprintf(&b, "%v try\n", now.Sub(start))
			if i := strings.IndexAny(open, "abc"); i >= 0 {
				c.passed(now, targetsOf(open)[0])
			} else {
				c.failed(now)
			}
		}
		says := "nothing"
		switch {
		case c.onTLS:
			says = "TLS " + c.relay
		case c.use.addr.IsValid():
			says = "UDP " + c.use.name
		}
		if says != said {
			fmt.Fprintf(&b, "%v %s\n", now.Sub(start), says)
			said = says
		}
		next := c.due()
		if len(events) > 0 && (next.IsZero() || start.Add(events[0].at).Before(next)) {
			next = start.Add(events[0].at)
		}
		if next.IsZero() || next.Sub(start) > until {
			return b.String()
		}
		if !next.After(now) {
			return b.String() + "due at once for ever\n"
		}
		now = next
	}
}

func TestChoice(t *testing.T) {
	for name, row := range map[string]struct {
		events []event
		until  time.Duration
		open   string // UDP passes there while TLS is in use
		want   string
	}{
		"nothing announced: the peer begins": {[]event{set(0, "", ""), down(1), up(2 * time.Second)}, time.Hour, "", ""},
		"one address is used for ever":       {[]event{set(0, "a", ""), down(1)}, time.Hour, "", "0s UDP a\n"},
		"in turn, three seconds each, again and again": {[]event{set(0, "a b c", "")}, 10 * time.Second, "",
			"0s UDP a\n3s UDP b\n6s UDP c\n9s UDP a\n"},
		"what comes up stays": {[]event{set(0, "a b", "t"), up(4 * time.Second)}, time.Hour, "", "0s UDP a\n3s UDP b\n"},
		"TLS after five seconds, then UDP again": {[]event{set(0, "a", "t")}, 20 * time.Second, "",
			"0s UDP a\n5s TLS t\n10s UDP a\n15s TLS t\n20s UDP a\n"},
		"each round of UDP goes on where the last ended": {[]event{set(0, "a b c", "t")}, 20 * time.Second, "",
			"0s UDP a\n3s UDP b\n5s TLS t\n10s UDP c\n13s UDP a\n15s TLS t\n20s UDP b\n"},
		"TLS candidates in turn, then UDP": {[]event{set(0, "a", "t u")}, 17 * time.Second, "",
			"0s UDP a\n5s TLS t\n10s TLS u\n15s UDP a\n"},
		"only TLS, at once":                                {[]event{set(0, "", "t u")}, 12 * time.Second, "", "0s TLS t\n5s TLS u\n10s TLS t\n"},
		"a name without an address":                        {[]event{unresolved(0, "t")}, 6 * time.Second, "", "5s TLS t\n"},
		"a name that resolves late":                        {[]event{unresolved(0, "t"), set(time.Second, "a", "t")}, 6 * time.Second, "", "1s UDP a\n5s TLS t\n"},
		"a name that resolves when the path is up already": {[]event{unresolved(0, ""), up(1), set(2, "a", "")}, time.Hour, "", "2ns UDP a\n"},
		"on TLS UDP is tried after 10 s, then every 5 min": {[]event{set(0, "a", "t"), up(6 * time.Second)}, 11 * time.Minute, "",
			"0s UDP a\n5s TLS t\n16s try\n5m16s try\n10m16s try\n"},
		"a try that is answered leads back to UDP": {[]event{set(0, "a b", "t"), up(6 * time.Second)}, time.Hour, "b",
			"0s UDP a\n3s UDP b\n5s TLS t\n16s try\n16s UDP b\n"},
		"UDP that answered and failed is not tried again soon": {
			[]event{set(0, "a", "t"), up(6 * time.Second), down(20 * time.Second), up(26 * time.Second)}, 6 * time.Minute, "a",
			"0s UDP a\n5s TLS t\n16s try\n16s UDP a\n25s TLS t\n5m16s try\n5m16s UDP a\n"},
		"UDP that dies is waited for, then TLS": {[]event{set(0, "a", "t"), up(1), down(time.Minute)}, time.Minute + 6*time.Second, "",
			"0s UDP a\n1m5s TLS t\n"},
		"TLS that dies stays for its turn": {[]event{set(0, "", "t u"), up(time.Second), down(time.Minute), up(time.Minute + 4*time.Second)}, time.Hour, "",
			"0s TLS t\n"},
		"what is withdrawn stays while it is up": {[]event{set(0, "a b", ""), up(1), set(time.Second, "b", ""), down(time.Minute)}, time.Hour, "",
			"0s UDP a\n1m0s UDP b\n"},
		"TLS that is withdrawn stays while it is up": {[]event{set(0, "", "t"), up(1), set(time.Second, "a", ""), down(2 * time.Second)}, time.Hour, "",
			"0s TLS t\n2s UDP a\n"},
		"all is withdrawn while down": {[]event{set(0, "a", "t"), set(6*time.Second, "", "")}, time.Hour, "", "0s UDP a\n5s TLS t\n6s nothing\n"},
		"announced while up without any: the peer began, and that works": {
			[]event{set(0, "", ""), up(1), set(time.Second, "a", "t"), down(time.Minute)}, time.Minute + time.Second, "", "1m0s UDP a\n"},
		"the address of a name changes while down":   {[]event{set(0, "a", ""), set(time.Second, "b", "")}, time.Hour, "", "0s UDP a\n1s UDP b\n"},
		"a candidate is added behind the one in use": {[]event{set(0, "a", ""), set(time.Second, "a b", "")}, 5 * time.Second, "", "0s UDP a\n3s UDP b\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, story(row.events, row.until, row.open)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzChoice shows that no order of events leaves a choice stuck: not due for ever, and never without a way when it has one.
func FuzzChoice(f *testing.F) {
	f.Add([]byte{0x13, 0x21, 0x42, 0x30, 0x55})
	f.Fuzz(func(t *testing.T, script []byte) {
		var c choice
		now := time.Unix(1000, 0)
		udps, tlss := []string{"", "a", "a b", "b c"}, []string{"", "t", "t u"}
		for _, b := range script {
			now = now.Add(time.Duration(b&15) * 700 * time.Millisecond)
			switch what := b >> 4; {
			case what < 12:
				c.set(now, targetsOf(udps[what%4]), strings.Fields(tlss[what/4]), what%4 != 0)
			case what == 12:
				c.report(now, true)
			case what == 13:
				c.report(now, false)
			default:
				if c.step(now) && what == 14 {
					c.failed(now)
				}
			}
			for steps := 0; !c.up && !c.due().IsZero() && !c.due().After(now); steps++ {
				if c.step(now); steps > 10 {
					t.Fatalf("due for ever: %+v", c)
				}
			}
			if !c.up && len(c.udp)+len(c.tls) > 0 && !c.onTLS && !c.use.addr.IsValid() && !c.waiting {
				t.Fatalf("no way though there is one: %+v", c)
			}
			if c.onTLS && c.relay == "" {
				t.Fatalf("over TLS to nobody: %+v", c)
			}
		}
	})
}
