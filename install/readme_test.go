package install

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages tell people how to install and to develop.
var pages = []string{"README.md", "../docs/install.md", "../docs/development.md"}

var (
	// pathInText is a file of ours, as a page names it.
	pathInText = regexp.MustCompile("(?:^|[ `=])((?:install/)?(?:values|chart|schemas|dev|aws|install)/[-a-zA-Z_./]*\\.(?:yaml|yml|json|tpl|md|sh)|\\.(?:ci|github)/[-a-zA-Z_./]+|(?:\\./)?cmd/[a-z]+)")
	// valueInText is a value, in a flag or in running text.
	valueInText = regexp.MustCompile("(?:--set |`)([a-zA-Z]+(?:\\.[a-zA-Z]+)+)")
	linkInText  = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	heading     = regexp.MustCompile(`(?m)^#+ (.*)$`)
	codeBlock   = regexp.MustCompile("(?s)\n```\n.*?\n```\n")
	noAnchor    = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// everyPage runs a test for each page.
func everyPage(t *testing.T, test func(t *testing.T, page, text string)) {
	t.Helper()
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			test(t, page, string(must(os.ReadFile(page))))
		})
	}
}

// What a page tells people to type is there.
func TestPagesNameFilesThatAreThere(t *testing.T) {
	t.Parallel()
	everyPage(t, func(t *testing.T, _, text string) {
		found := pathInText.FindAllStringSubmatch(text, -1)
		for _, match := range found {
			file := strings.TrimPrefix(match[1], "./")
			if !strings.HasPrefix(file, ".") && !strings.HasPrefix(file, "cmd/") {
				file = "install/" + strings.TrimPrefix(file, "install/")
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(file))); err != nil {
				t.Errorf("%s: %v", match[1], err)
			}
		}
		if len(found) < 4 {
			t.Errorf("only %d files were found", len(found))
		}
	})
}

func TestPagesNameValuesThatAreThere(t *testing.T) {
	t.Parallel()
	ours, checked := readValues(t, "chart/values.yaml"), 0
	for _, page := range pages {
		for _, match := range valueInText.FindAllStringSubmatch(string(must(os.ReadFile(page))), -1) {
			keys := strings.Split(match[1], ".")
			if _, has := ours[keys[0]]; !has || match[1] == "nats.creds" { // somebody else's chart, or a file
				continue
			}
			var value any = ours
			for _, key := range keys {
				known, _ := value.(map[string]any)
				if value = known[key]; value == nil {
					t.Errorf("%s names the value %s, which is not there", page, match[1])
					break
				}
			}
			checked++
		}
	}
	if checked < 18 {
		t.Errorf("only %d values were found", checked)
	}
}

func TestPagesLinkToWhatIsThere(t *testing.T) {
	t.Parallel()
	everyPage(t, func(t *testing.T, page, text string) {
		for _, link := range linkInText.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, "\n"), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			target := page
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(page), link[1])
			}
			raw, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %v", link[0], err)
				continue
			}
			if link[2] != "" && !slices.Contains(anchors(string(raw)), link[2]) {
				t.Errorf("%s has no heading #%s", target, link[2])
			}
		}
	})
}

// anchors are what the headings of a page are linked by.
func anchors(text string) []string {
	var found []string
	times := map[string]int{}
	for _, match := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, "\n"), -1) {
		anchor := strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-")
		if n := times[anchor]; n > 0 {
			found = append(found, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			found = append(found, anchor)
		}
		times[anchor]++
	}
	return found
}

var (
	moduleInText  = regexp.MustCompile(`--module ([a-z-]+)`)
	profileInText = regexp.MustCompile(`--profile ([a-z,-]+)`)
	forwarded     = regexp.MustCompile("`(?:127\\.0\\.0\\.1)?:(\\d+)`")
)

// What docs/development.md says of skaffold.yaml is there, and what is there it says.
func TestDevelopmentKnowsSkaffold(t *testing.T) {
	t.Parallel()
	text := string(must(os.ReadFile("../docs/development.md")))
	configs := skaffoldConfigs(t)
	for _, match := range moduleInText.FindAllStringSubmatch(text, -1) {
		if configs[match[1]] == nil {
			t.Errorf("there is no module %s", match[1])
		}
	}
	var profiles, ports []string
	for _, config := range configs {
		for _, profile := range config.Profiles {
			profiles = append(profiles, profile.Name)
			if !strings.Contains(text, "| `"+profile.Name+"` |") {
				t.Errorf("nothing is said of the profile %s", profile.Name)
			}
		}
		for _, forward := range config.PortForward {
			ports = append(ports, fmt.Sprint(forward.LocalPort))
		}
	}
	for _, match := range profileInText.FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(match[1], ",") {
			if !slices.Contains(profiles, name) {
				t.Errorf("there is no profile %s", name)
			}
		}
	}
	var told []string
	for _, match := range forwarded.FindAllStringSubmatch(text, -1) {
		told = append(told, match[1])
	}
	slices.Sort(ports)
	slices.Sort(told)
	if !slices.Equal(ports, told) {
		t.Errorf("it tells of the ports %v, and %v are forwarded", told, ports)
	}
}
