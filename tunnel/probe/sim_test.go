package probe

import (
	"math/rand/v2"
	"net/netip"
	"sort"
	"testing"
	"time"

	"github.com/spillway-dev/spillway/tunnel"
)

const ms = time.Millisecond

// world is an initiator and a responder with a path between them, under a time that jumps from event to event.
type world struct {
	t         *testing.T
	now       time.Duration
	ask       *initiator
	reply     *responder
	noAsk     bool // the initiator does not run
	noReply   bool
	path      func(now time.Duration, size int, toResponder bool) (delay time.Duration, ok bool)
	flight    []flying
	questions int // sent
	device    int // the initiator's device takes no more; 0: anything
	log       []change
}

type flying struct {
	at          time.Duration
	m           message
	toResponder bool
}

type change struct {
	at        time.Duration
	initiator bool
	state     State
}

func clean(rtt time.Duration) func(time.Duration, int, bool) (time.Duration, bool) {
	return func(time.Duration, int, bool) (time.Duration, bool) { return rtt / 2, true }
}

func addresses() (a, b netip.Addr) { return tunnel.SlotAddr("a", 0), tunnel.SlotAddr("b", 0) }

func newWorld(t *testing.T, maxA, maxB int) *world {
	a, b := addresses()
	return &world{
		t:     t,
		now:   time.Second,
		ask:   newInitiator(Target{Key: Key{Peer: "b"}, Local: a, Remote: b, Initiate: true, MaxMTU: maxA}, 4711, time.Second),
		reply: newResponder(Target{Key: Key{Peer: "a"}, Local: b, Remote: a, MaxMTU: maxB}, 815, time.Second),
		path:  clean(20 * ms),
	}
}

func (w *world) send(messages []message, toResponder bool) {
	for _, m := range messages {
		if toResponder && w.device > 0 && m.size > w.device {
			w.ask.tooBig(w.now, m)
			continue
		}
		if m.kind == question {
			w.questions++
		}
		if delay, ok := w.path(w.now, m.size, toResponder); ok {
			w.flight = append(w.flight, flying{w.now + delay, m, toResponder})
		}
	}
	sort.SliceStable(w.flight, func(i, j int) bool { return w.flight[i].at < w.flight[j].at })
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	w.until(d, func() bool { return false })
}

// until lets time pass until the condition holds and returns how much passed.
func (w *world) until(limit time.Duration, done func() bool) time.Duration {
	begin := w.now
	for steps := 0; w.now < begin+limit && !done(); steps++ {
		if steps > 1_000_000 {
			w.t.Fatal("time stands still")
		}
		w.step(begin + limit)
	}
	return w.now - begin
}

func (w *world) step(end time.Duration) {
	at := end
	if !w.noAsk {
		at = min(at, w.ask.next())
	}
	if !w.noReply {
		at = min(at, w.reply.next())
	}
	if len(w.flight) > 0 {
		at = min(at, w.flight[0].at)
	}
	w.now = max(w.now, at)
	before := [2]State{w.ask.state(), w.reply.state()}
	if len(w.flight) > 0 && w.flight[0].at <= w.now {
		f := w.flight[0]
		w.flight = w.flight[1:]
		if f.toResponder && !w.noReply {
			w.send(w.reply.receive(w.now, f.m, nil), false)
		}
		if !f.toResponder && !w.noAsk {
			w.send(w.ask.receive(w.now, f.m, nil), true)
		}
	}
	if !w.noAsk && w.ask.next() <= w.now {
		w.send(w.ask.tick(w.now, nil), true)
	}
	if !w.noReply && w.reply.next() <= w.now {
		w.send(w.reply.tick(w.now, nil), false)
	}
	for n, now := range [2]State{w.ask.state(), w.reply.state()} {
		if now.Up != before[n].Up || now.MTU != before[n].MTU || now.LargeLost != before[n].LargeLost {
			w.log = append(w.log, change{w.now, n == 0, now})
		}
	}
}

func (w *world) bothUp() bool   { return w.ask.up && w.reply.view.Up }
func (w *world) bothDown() bool { return !w.ask.up && !w.reply.view.Up }

func (w *world) expectUp() {
	w.t.Helper()
	w.run(5 * time.Second)
	if !w.bothUp() {
		w.t.Fatalf("not up: %+v and %+v", w.ask.state(), w.reply.state())
	}
}

func TestPath_ComesUpAndFindsTheSize(t *testing.T) {
	for name, row := range map[string]struct {
		rtt        time.Duration
		maxA, maxB int
		passes     int
		want       int // at least, and 8 more at most
	}{
		"both alike":                {20 * ms, 1420, 1420, 9000, 1420},
		"the smaller of both":       {20 * ms, 8920, 1420, 9000, 1420},
		"the path is smaller":       {20 * ms, 8920, 8920, 1380, 1373},
		"jumbo":                     {20 * ms, 8920, 8920, 8920, 8920},
		"just what every path does": {20 * ms, 1420, 1420, 1200, 1200},
		"a device below it":         {20 * ms, 1180, 1420, 9000, 1180},
		"far away":                  {500 * ms, 1420, 1420, 1400, 1393},
		"nobody says":               {20 * ms, 0, 0, 9000, 1200},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, row.maxA, row.maxB)
			w.path = func(_ time.Duration, size int, _ bool) (time.Duration, bool) { return row.rtt / 2, size <= row.passes }
			up := w.until(10*time.Second, w.bothUp)
			w.run(20 * time.Second)
			for _, s := range []State{w.ask.state(), w.reply.state()} {
				if !s.Up || !s.Ever || s.LargeLost || s.MTU < row.want || s.MTU > row.want+8 || s.MTU > row.passes {
					t.Errorf("state %+v, want up with %d", s, row.want)
				}
				if s.RTT < row.rtt || s.RTT > row.rtt+ms {
					t.Errorf("round trip %v, want %v", s.RTT, row.rtt)
				}
			}
			if limit := 350*ms + 4*row.rtt; up > limit {
				t.Errorf("up after %v, want %v", up, limit)
			}
			for _, c := range w.log {
				if !c.state.Up && c.at > time.Second+up {
					t.Errorf("down at %v", c.at)
				}
			}
		})
	}
}

func TestPath_DiesAndHeals(t *testing.T) {
	for name, row := range map[string]struct {
		rtt                     time.Duration
		dead                    func(toResponder bool) bool
		wantDownIn, wantUpAgain time.Duration
	}{
		"both ways":         {10 * ms, func(bool) bool { return true }, 1750 * ms, 600 * ms},
		"both ways, 50 ms":  {50 * ms, func(bool) bool { return true }, 1750 * ms, 600 * ms},
		"questions":         {50 * ms, func(to bool) bool { return to }, 1750 * ms, 600 * ms},
		"answers":           {50 * ms, func(to bool) bool { return !to }, 1750 * ms, 600 * ms},
		"both ways, 500 ms": {500 * ms, func(bool) bool { return true }, 2000 * ms, 2500 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			var worstDown, worstUp time.Duration
			for offset := range 30 { // of death within a period of probing
				w := newWorld(t, 1420, 1420)
				w.path = clean(row.rtt)
				w.expectUp()
				w.run(time.Duration(offset) * 37 * ms)
				w.path = func(_ time.Duration, _ int, to bool) (time.Duration, bool) { return row.rtt / 2, !row.dead(to) }
				worstDown = max(worstDown, w.until(5*time.Second, w.bothDown))
				w.run(time.Duration(offset)*41*ms + 3*time.Second)
				if !w.bothDown() || w.ask.largeLost {
					t.Fatalf("not down: %+v", w.ask.state())
				}
				w.path = clean(row.rtt)
				worstUp = max(worstUp, w.until(5*time.Second, w.bothUp))
				w.run(5 * time.Second)
				if !w.bothUp() || w.ask.mtu != 1420 || w.reply.view.MTU != 1420 {
					t.Fatalf("after healing: %+v and %+v", w.ask.state(), w.reply.state())
				}
			}
			t.Logf("down on both sides after %v at most, up after %v", worstDown, worstUp)
			if worstDown > row.wantDownIn || worstUp > row.wantUpAgain {
				t.Errorf("want down after %v and up after %v", row.wantDownIn, row.wantUpAgain)
			}
		})
	}
}

func TestPath_NoFalseAlarms(t *testing.T) {
	random := func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
	for name, path := range map[string]func(r *rand.Rand, now time.Duration) (time.Duration, bool){
		"500 ms round trip": func(*rand.Rand, time.Duration) (time.Duration, bool) { return 250 * ms, true },
		"10 to 500 ms": func(r *rand.Rand, _ time.Duration) (time.Duration, bool) {
			return time.Duration(5+r.IntN(245)) * ms, true
		},
		"5 % lost each way": func(r *rand.Rand, _ time.Duration) (time.Duration, bool) { return 10 * ms, r.IntN(100) >= 5 },
		"away for 400 ms": func(_ *rand.Rand, now time.Duration) (time.Duration, bool) {
			return 10 * ms, now%(7*time.Second) > 400*ms
		},
		"jumps by 450 ms": func(_ *rand.Rand, now time.Duration) (time.Duration, bool) {
			return 10*ms + now/(20*time.Second)%2*225*ms, true
		},
		"5 % lost, far away":     func(r *rand.Rand, _ time.Duration) (time.Duration, bool) { return 250 * ms, r.IntN(100) >= 5 },
		"reordered within 80 ms": func(r *rand.Rand, _ time.Duration) (time.Duration, bool) { return time.Duration(r.IntN(80)) * ms, true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1420, 1420)
			r := random()
			w.path = func(now time.Duration, _ int, _ bool) (time.Duration, bool) { return path(r, now) }
			w.until(20*time.Second, func() bool { return w.bothUp() && w.ask.mtu == 1420 && w.reply.view.MTU == 1420 })
			w.log = nil
			w.run(30 * time.Minute)
			if len(w.log) > 0 {
				t.Errorf("%d changes, first %+v", len(w.log), w.log[0])
			}
		})
	}
}

func TestPath_BlackHole(t *testing.T) {
	for name, row := range map[string]struct {
		passes  int
		wantUp  bool
		wantMTU int
		within  time.Duration
	}{
		"large packets only":        {1300, true, 1200, 1500 * ms},
		"all but small packets":     {600, false, 0, 2000 * ms},
		"a little below what it is": {1419, true, 1200, 1500 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1420, 1420)
			w.expectUp()
			w.path = func(_ time.Duration, size int, _ bool) (time.Duration, bool) { return 10 * ms, size <= row.passes }
			took := w.until(5*time.Second, func() bool {
				if row.wantUp {
					return w.reply.view.MTU == row.wantMTU
				}
				return w.ask.largeLost && w.reply.view.LargeLost && w.bothDown()
			})
			t.Logf("found after %v", took)
			if took > row.within || w.ask.up != row.wantUp || w.reply.view.Up != row.wantUp {
				t.Errorf("after %v: %+v and %+v, want up=%v within %v", took, w.ask.state(), w.reply.state(), row.wantUp, row.within)
			}
			w.run(10 * time.Second)
			if w.ask.up != row.wantUp || row.wantUp && (w.ask.mtu <= row.passes-8 || w.ask.mtu > row.passes) {
				t.Errorf("later %+v, want up=%v with nearly %d", w.ask.state(), row.wantUp, row.passes)
			}
			w.path = clean(20 * ms)
			w.run(6 * time.Minute) // the search is made again
			if !w.bothUp() || w.ask.mtu != 1420 {
				t.Errorf("healed: %+v", w.ask.state())
			}
		})
	}
}

func TestPath_IdleCosts(t *testing.T) {
	w := newWorld(t, 1420, 1420)
	w.expectUp()
	w.questions = 0
	w.run(10 * time.Minute)
	if rate := float64(w.questions) / 600; rate > 1.6 {
		t.Errorf("%.2f questions per second", rate)
	}
}

func TestPath_RestartsDoNotFlap(t *testing.T) {
	w := newWorld(t, 1420, 1420)
	w.expectUp()
	w.log = nil
	w.ask = newInitiator(w.ask.target, 12345, w.now)
	w.run(5 * time.Second)
	w.reply = newResponder(w.reply.target, 54321, w.now)
	w.run(5 * time.Second)
	for _, c := range w.log {
		if !c.state.Up {
			t.Errorf("down at %v: %+v", c.at, c)
		}
	}
	if !w.bothUp() {
		t.Errorf("%+v and %+v", w.ask.state(), w.reply.state())
	}
}

func TestResponder_BelievesNobodyElse(t *testing.T) {
	w := newWorld(t, 1420, 1420)
	w.expectUp()
	state := w.reply.state()
	forged := message{kind: question, flags: flagLargeLost, seq: 1 << 30, size: 1420, mtu: 68, nonce: 99, echo: 98}
	out := w.reply.receive(w.now, forged, nil)
	if got := w.reply.state(); got != state {
		t.Errorf("state %+v, want %+v", got, state)
	}
	if len(out) != 1 || out[0].size > forged.size || out[0].kind != answer {
		t.Errorf("answers %+v, want one, not larger than the question", out)
	}
	for _, m := range []message{{kind: answer, seq: w.ask.seq, size: 1420, echo: 98, nonce: 1}, {kind: answer, seq: 1 << 30, size: 1420, echo: 4711, nonce: 1}} {
		if out := w.ask.receive(w.now, m, nil); len(out) > 0 || w.ask.peer != 815 {
			t.Errorf("forged answer %+v was believed: %+v", m, out)
		}
	}
}

func TestResponder_AnswersAtALimitedRate(t *testing.T) {
	w := newWorld(t, 1420, 1420)
	answers := 0
	for n := range 10_000 {
		answers += len(w.reply.receive(time.Minute+time.Duration(n)*ms/10, message{kind: question, seq: uint32(n), size: 1420, nonce: 99}, nil))
	}
	if answers > 2*answersPerTarget+1 {
		t.Errorf("%d answers in a second", answers)
	}
}

func TestInitiator_DeviceTakesLess(t *testing.T) {
	w := newWorld(t, 1420, 1420)
	w.expectUp()
	w.device = 1300
	w.log = nil
	w.run(20 * time.Second)
	for _, c := range w.log {
		if !c.state.Up {
			t.Errorf("down: %+v", c)
		}
	}
	if !w.ask.up || w.ask.mtu > 1300 || w.ask.mtu < 1292 {
		t.Errorf("%+v", w.ask.state())
	}
}

func TestSample_AsksSeldomAndKeepsItsSize(t *testing.T) {
	w := newWorld(t, 1380, 0)
	w.ask.target.Slot = -1
	w.ask.mtu = w.ask.base()
	w.expectUp()
	w.questions = 0
	w.run(time.Minute)
	if w.questions > 13 || w.ask.mtu != 1380 {
		t.Errorf("%d questions a minute of %d bytes", w.questions, w.ask.mtu)
	}
	w.path = func(_ time.Duration, size int, _ bool) (time.Duration, bool) { return 10 * ms, size < 1300 }
	w.run(8 * time.Second)
	if s := w.ask.state(); s.Up || !s.LargeLost {
		t.Errorf("%+v, want large packets lost", s)
	}
}

func TestClock_StandsStillWhileTheProcessSleeps(t *testing.T) {
	start := time.Unix(1000, 0)
	c := clock{last: start, due: 700 * ms}
	if now, slept := c.advance(start.Add(710 * ms)); now != 710*ms || slept {
		t.Errorf("on time: %v %v", now, slept)
	}
	c.due = 1410 * ms
	if now, slept := c.advance(start.Add(time.Hour)); now != 1460*ms || !slept {
		t.Errorf("after an hour: %v %v", now, slept)
	}
}
