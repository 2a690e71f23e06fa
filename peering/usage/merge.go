package usage

import (
	"io"
	"maps"
	"slices"
)

// writeText writes what pages, in their order, have about some namespaces: families by name, each with one # HELP and # TYPE.
func writeText(w io.Writer, pages []*page, namespaces map[string]bool) error {
	type place struct {
		page   *page
		family *family
	}
	families := map[string][]place{}
	wanted := make(map[*page][]bool, len(pages))
	for _, p := range pages {
		wanted[p] = p.among(namespaces)
		for i := range p.families {
			f := &p.families[i]
			if slices.ContainsFunc(f.pieces, func(s piece) bool { return wanted[p][s.namespace] }) {
				families[f.name] = append(families[f.name], place{p, f})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		places := families[name]
		first := places[0].family // whose words the others' are taken to be
		for _, line := range [][]byte{first.help, first.kind} {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		for _, at := range places {
			for _, s := range at.family.pieces {
				if !wanted[at.page][s.namespace] {
					continue
				}
				if _, err := w.Write(at.page.lines(s)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// among says for each of the page's namespaces whether it is one of those.
func (p *page) among(namespaces map[string]bool) []bool {
	out := make([]bool, len(p.namespaces))
	for i, name := range p.namespaces {
		out[i] = namespaces[name]
	}
	return out
}
