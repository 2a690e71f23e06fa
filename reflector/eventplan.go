package reflector

import (
	"encoding/json"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// eventEvery is the shortest time between two writes of one Event.
	eventEvery = 30 * time.Second
	// A pod gets eventBurst new Events at once, then one every eventRefill: as client-go's EventSpamFilter allows a component
	// for an object.
	eventBurst  = 25
	eventRefill = 5 * time.Minute
	// eventLife is how long an API server keeps an Event that nobody writes to, by default. What was told longer ago need not
	// be remembered: it is looked up again.
	eventLife = time.Hour
	// eventsRemembered is from how many Events of a pod on that happens.
	eventsRemembered = 2 * eventBurst
)

// eventStep is what is to be done for an Event at home.
type eventStep string

const (
	eventNone   eventStep = "none"
	eventLook   eventStep = "get"
	eventCreate eventStep = "create"
	eventPatch  eventStep = "patch"
)

// toldPod is what home was told of one pod. It belongs to whoever holds the lock of the eventLoop.
type toldPod struct {
	events map[string]toldEvent // by name at home
	tokens float64              // how many new ones it may have
	at     time.Time            // when tokens was right
}

// toldEvent is what home has of one Event.
type toldEvent struct {
	state eventState
	count int32
	last  time.Time
	wrote time.Time // by this process
}

// eventState is what is known of an Event at home.
type eventState int

const (
	eventNew    eventState = iota // nothing
	eventAbsent                   // looked for, and not there
	eventThere                    // there, and not looked at
	eventKnown                    // there, as noted
)

func newToldPod(now time.Time) *toldPod {
	return &toldPod{events: map[string]toldEvent{}, tokens: eventBurst, at: now}
}

// plan decides the one next step for an Event, or when to look again (0: never). What was seen before this process began,
// at since, is likely to be told already: a read is cheaper for the API server than a refused write.
func (t *toldPod) plan(want *corev1.Event, since, now time.Time) (todo eventStep, again time.Duration) {
	have := t.events[want.Name]
	switch {
	case have.state == eventThere, have.state == eventNew && want.LastTimestamp.Time.Before(since):
		return eventLook, 0
	case have.state != eventKnown:
		if t.refill(now); t.tokens < 1 {
			return eventNone, 0
		}
		return eventCreate, 0
	case want.Count <= have.count && !want.LastTimestamp.After(have.last):
		return eventNone, 0
	}
	if left := have.wrote.Add(eventEvery).Sub(now); left > 0 {
		return eventNone, left
	}
	// Another object of the peer may have counted further: the count never falls.
	want.Count = max(want.Count, have.count)
	if want.LastTimestamp.Time.Before(have.last) {
		want.LastTimestamp = metav1.NewTime(have.last)
	}
	return eventPatch, 0
}

// refill counts the tokens that came with time.
func (t *toldPod) refill(now time.Time) {
	t.tokens = min(eventBurst, t.tokens+float64(now.Sub(t.at))/float64(eventRefill))
	t.at = now
}

// note keeps what home has of an Event.
func (t *toldPod) note(name string, told toldEvent) {
	if before := t.events[name].state; told.state == eventKnown && !told.wrote.IsZero() && before != eventKnown {
		t.tokens-- // it was made
	}
	if len(t.events) >= eventsRemembered {
		maps.DeleteFunc(t.events, func(_ string, e toldEvent) bool { return e.last.Before(told.wrote.Add(-eventLife)) })
	}
	t.events[name] = told
}

// eventPatchOf is the merge patch that makes an Event at home grow to want.
func eventPatchOf(want *corev1.Event) ([]byte, error) {
	return json.Marshal(map[string]any{"count": want.Count, "lastTimestamp": want.LastTimestamp})
}
