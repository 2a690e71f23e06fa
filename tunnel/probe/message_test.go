package probe

import (
	"errors"
	"testing"
	"time"
)

func TestMessage_ReadsWhatItWrites(t *testing.T) {
	want := message{
		kind: question, flags: flagUp | flagEver, loss: 7, seq: 12345, size: 1420, max: 8920, mtu: 1420,
		wait: 1350 * time.Millisecond, rtt: 123 * time.Microsecond, nonce: 0xdeadbeefcafe, echo: 42,
	}
	b := make([]byte, want.size-overheadIP6)
	want.put(b)
	got, err := parse(b, overheadIP6)
	if err != nil || got != want {
		t.Errorf("parse: %+v, %v, want %+v", got, err, want)
	}
}

func TestParse_RefusesWhatIsNoProbe(t *testing.T) {
	good := func() []byte {
		b := make([]byte, 100)
		message{kind: question, size: 100 + overheadIP6, nonce: 1}.put(b)
		return b
	}
	with := func(at int, value byte) []byte {
		b := good()
		b[at] = value
		return b
	}
	for name, row := range map[string]struct {
		b    []byte
		want error
	}{
		"a probe":            {good(), nil},
		"nothing":            {nil, errShort},
		"cut off":            {good()[:39], errShort},
		"another protocol":   {with(0, 'x'), errForeign},
		"a later version":    {with(4, 2), errVersion},
		"no kind":            {with(5, 0), errField},
		"an unknown kind":    {with(5, 4), errField},
		"lost more than all": {with(7, 101), errField},
		"another size":       {good()[:99], errField},
		"no session":         {with(31, 0), errField},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(row.b, overheadIP6); !errors.Is(err, row.want) {
				t.Errorf("error %v, want %v", err, row.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	b := make([]byte, 100)
	message{kind: question, size: 100 + overheadIP6, nonce: 1}.put(b)
	f.Add(b)
	f.Add(b[:39])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b, overheadIP6)
		if err != nil {
			return
		}
		again := make([]byte, len(b))
		m.put(again)
		if got, err := parse(again, overheadIP6); err != nil || got != m {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
		if a := answerTo(m); a.size > len(b)+overheadIP6 {
			t.Errorf("an answer of %d bytes to %d", a.size, len(b)+overheadIP6)
		}
	})
}
