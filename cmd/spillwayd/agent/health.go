package agent

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// hungAfter is far longer than a loop takes that comes round every second or three.
const hungAfter = time.Minute

// healthy says why the agent should be started anew: one of its loops no longer comes round.
func (a *Agent) healthy() error {
	if since := time.Since(time.Unix(0, a.passed.Load())); since > hungAfter {
		return fmt.Errorf("the last pass was %s ago", since.Round(time.Second))
	}
	if at, _ := a.engine.Settled(); !at.IsZero() && time.Since(at) > hungAfter {
		return fmt.Errorf("the kernel was last looked at %s ago", time.Since(at).Round(time.Second))
	}
	return nil
}

// ready says why the kernel is not as it is wanted, as far as that is known.
func (a *Agent) ready() error {
	at, err := a.engine.Settled()
	if at.IsZero() {
		return errors.New("it is not known yet what is wanted: neither the API server nor the state file has told")
	}
	return err
}

// answer says ok, or why not.
func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // the reader went away
	}
}
