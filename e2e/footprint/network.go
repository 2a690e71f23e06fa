package footprint

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// links reads `ip -j -d link show`. Whether a bridge has a carrier is that of its pods, and addresses of devices are dice.
func (f Footprint) links(text string) error {
	var all []struct {
		Name   string   `json:"ifname"`
		Flags  []string `json:"flags"`
		MTU    int      `json:"mtu"`
		Master string   `json:"master"`
		Info   struct {
			Kind string          `json:"info_kind"`
			Data json.RawMessage `json:"info_data"`
		} `json:"linkinfo"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return err
	}
	for _, l := range all {
		how := []string{fmt.Sprintf("mtu %d", l.MTU)}
		if slices.Contains(l.Flags, "UP") {
			how = append(how, "up")
		}
		if l.Info.Kind != "" {
			how = append(how, "kind "+l.Info.Kind)
		}
		if l.Master != "" {
			how = append(how, "master "+l.Master)
		}
		f.add("link "+l.Name, how...)
	}
	return nil
}

// addresses reads `ip -j address show`. Link-local ones are the kernel's: they come with the link.
func (f Footprint) addresses(text string) error {
	var all []struct {
		Name  string `json:"ifname"`
		Addrs []struct {
			Local  string `json:"local"`
			Length int    `json:"prefixlen"`
			Scope  string `json:"scope"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return err
	}
	for _, l := range all {
		for _, a := range l.Addrs {
			if a.Scope != "link" || !strings.HasPrefix(a.Local, "fe80:") {
				f.add(fmt.Sprintf("address %s %s/%d", l.Name, a.Local, a.Length), "scope "+a.Scope)
			}
		}
	}
	return nil
}

// route reads a line of `ip route show table all`. The kernel's own for link-local and multicast come with an address or a carrier.
func (f Footprint) route(family string) func(string) {
	return func(line string) {
		var words []string
		skip := 0
		for _, word := range strings.Fields(line) {
			switch {
			case skip > 0:
				skip--
			case word == "linkdown", word == "dead", word == `\`:
			case word == "expires", word == "error":
				skip = 1
			default:
				words = append(words, word)
			}
		}
		if slices.ContainsFunc(words, kernelMade) {
			return
		}
		f.add("route " + family + " " + strings.Join(words, " "))
	}
}

func kernelMade(word string) bool {
	return strings.HasPrefix(word, "fe80:") || strings.HasPrefix(word, "ff00:")
}

// ruleset reads `nft -s list ruleset`: a thing per table, chain, set or map. The order of elements is not the order of anything.
func (f Footprint) ruleset(text string) error {
	table, block := "", ""
	elements := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case elements != "":
			elements += " " + line
		case strings.HasPrefix(line, "elements = {"):
			elements = line
		case table == "" && strings.HasSuffix(line, "{"):
			table = "nft " + strings.TrimSuffix(line, " {")
			f.add(table)
		case block == "" && strings.HasSuffix(line, "{"):
			block = table + " " + strings.TrimSuffix(line, " {")
			f.add(block)
		case line == "}" && block != "":
			block = ""
		case line == "}":
			table = ""
		default:
			f.add(orTable(block, table), line)
		}
		if strings.HasSuffix(elements, "}") {
			f.elements(block, elements)
			elements = ""
		}
	}
	if table != "" {
		return fmt.Errorf("%s does not end", table)
	}
	return nil
}

func orTable(block, table string) string {
	if block != "" {
		return block
	}
	return table
}

func (f Footprint) elements(block, text string) {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "elements = {"), "}")
	for element := range strings.SplitSeq(text, ",") {
		element, _, _ = strings.Cut(strings.TrimSpace(element), " expires ")
		f.add(block, "element "+element)
	}
}
