package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Prefix is what every environment variable of Guildhall begins with.
const Prefix = "GUILDHALL"

// unusedPrefix is one that no variable begins with: under it envconfig finds nothing but defaults.
const unusedPrefix = Prefix + "_DEFAULTS_ONLY"

// Load reads configurations from the environment. A value that does not parse is an error that names the variable;
// so is a GUILDHALL_ variable that no field answers to and that is not among those read elsewhere.
func Load(elsewhere []string, configs ...any) error {
	for _, config := range configs {
		if err := envconfig.Process(Prefix, config); err != nil {
			return describe(err)
		}
		if err := CheckNumbers(config); err != nil {
			return err
		}
	}
	return CheckUnknown(elsewhere, configs...)
}

// CheckNumbers is an error if a number or a duration of a configuration is not more than 0: none of ours has a meaning
// then.
func CheckNumbers(config any) error {
	var errs []error
	for _, v := range variables(config) {
		switch n := v.field.Interface().(type) {
		case int:
			if n < 1 {
				errs = append(errs, fmt.Errorf("%s=%d: want at least 1", v.name, n))
			}
		case time.Duration:
			if n <= 0 {
				errs = append(errs, fmt.Errorf("%s=%s: want more than 0", v.name, n))
			}
		}
	}
	return errors.Join(errs...)
}

// CheckUnknown is an error if there is a GUILDHALL_ variable that no field of the configurations answers to and that
// is not among those read elsewhere.
func CheckUnknown(elsewhere []string, configs ...any) error {
	known := map[string]bool{}
	for _, name := range elsewhere {
		known[name] = true
	}
	for _, config := range configs {
		for _, v := range variables(config) {
			known[v.name] = true
		}
	}
	return checkUnknown(os.Environ(), known)
}

func describe(err error) error {
	if parse, ok := err.(*envconfig.ParseError); ok { //nolint:errorlint // envconfig returns it unwrapped
		return fmt.Errorf("%s=%q: %w (want %s)", parse.KeyName, parse.Value, parse.Err, parse.TypeName)
	}
	return err
}

// serviceLink matches the variables that Kubernetes sets for each Service of a namespace: one that is called
// guildhall-… would make every pod beside it fail. The plain …_PORT is one only if its value is a URL.
var (
	serviceLink = regexp.MustCompile(`^[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)$`)
	serviceURL  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

func checkUnknown(environ []string, known map[string]bool) error {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case !strings.HasPrefix(name, Prefix+"_") || known[name]:
		case strings.HasPrefix(name, Prefix+"_TEST_"): // addresses for the test suites
		case serviceLink.MatchString(name):
		case strings.HasSuffix(name, "_PORT") && serviceURL.MatchString(value):
		default:
			return fmt.Errorf("%s is not a variable of this program; --help lists them (of guildhall: guildhall up --help)", name)
		}
	}
	return nil
}

// FillZero sets every field of config that is zero to the default of its tag, so that a Config made by hand
// and one from the environment mean the same.
func FillZero(config any) {
	fresh := reflect.New(reflect.TypeOf(config).Elem()).Interface()
	if err := envconfig.Process(unusedPrefix, fresh); err != nil {
		panic(fmt.Sprintf("a default of %T does not parse: %v", config, err)) // a test covers every Config
	}
	defaults := variables(fresh)
	for i, v := range variables(config) {
		if v.field.IsZero() {
			v.field.Set(defaults[i].field)
		}
	}
}

// Environ gives the environment from which [Load] reads this very configuration.
func Environ(config any) []string {
	var environ []string
	for _, v := range variables(config) {
		if !v.field.IsZero() {
			environ = append(environ, v.name+"="+text(v.field))
		}
	}
	return environ
}

// text gives a value as envconfig reads it: a list with commas.
func text(field reflect.Value) string {
	if field.Kind() != reflect.Slice {
		return fmt.Sprint(field.Interface())
	}
	items := make([]string, field.Len())
	for i := range items {
		items[i] = text(field.Index(i))
	}
	return strings.Join(items, ",")
}

// Usage writes the table of variables that configs are read from; one that several share stands once.
func Usage(w io.Writer, configs ...any) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "VARIABLE\tMEANING")
	seen := map[string]bool{}
	for _, config := range configs {
		for _, v := range variables(config) {
			if !seen[v.name] {
				meaning := v.tag.Get("desc")
				if preset := v.tag.Get("default"); preset != "" {
					meaning += " (default " + preset + ")"
				}
				fmt.Fprintf(table, "%s\t%s\n", v.name, meaning)
			}
			seen[v.name] = true
		}
	}
	return table.Flush()
}

// variable is one field of a Config.
type variable struct {
	name  string
	field reflect.Value
	tag   reflect.StructTag
}

// variables lists the fields of a Config as envconfig sees them. It shows its list only to a template.
func variables(config any) []variable {
	var list []variable
	collect := func(key string, field reflect.Value, tag reflect.StructTag) string {
		list = append(list, variable{name: key, field: field, tag: tag})
		return ""
	}
	visit := template.Must(template.New("").Funcs(template.FuncMap{"collect": collect}).
		Parse(`{{range .}}{{collect .Key .Field .Tags}}{{end}}`))
	if err := envconfig.Usaget(Prefix, config, io.Discard, visit); err != nil {
		panic(fmt.Sprintf("%T is no configuration: %v", config, err))
	}
	return list
}
