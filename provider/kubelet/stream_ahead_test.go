package kubelet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func TestReadAhead_KeepsBytesInOrder(t *testing.T) {
	want := make([]byte, 3*aheadMost+17)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(want)
	for name, body := range map[string]io.Reader{
		"whole": bytes.NewReader(want), "halves": iotest.HalfReader(bytes.NewReader(want)), "end with data": iotest.DataErrReader(bytes.NewReader(want)),
	} {
		t.Run(name, func(t *testing.T) {
			a := newReadAhead(io.NopCloser(body))
			got, err := io.ReadAll(iotest.OneByteReader(io.LimitReader(a, 100)))
			if err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(a)
			if got = append(got, rest...); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, %d bytes, want %d and the same", err, len(got), len(want))
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadAhead_ErrorComesAfterWhatWasRead(t *testing.T) {
	broken := errors.New("broken")
	a := newReadAhead(io.NopCloser(io.MultiReader(bytes.NewReader([]byte("half")), iotest.ErrReader(broken))))
	got, err := io.ReadAll(a)
	if string(got) != "half" || !errors.Is(err, broken) {
		t.Errorf("%q, %v", got, err)
	}
	_ = a.Close()
}

// Close ends a goroutine that waits for the body, and one that waits for its reader.
func TestReadAhead_CloseWaitsForNobody(t *testing.T) {
	idle, end := io.Pipe()
	defer func() { _ = end.Close() }()
	_ = newReadAhead(idle).Close()

	full := newReadAhead(io.NopCloser(bytes.NewReader(make([]byte, 4*aheadMost))))
	if _, err := full.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = full.Close()
}
