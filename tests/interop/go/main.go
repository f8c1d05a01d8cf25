// Calls WeChat through a host with a WeChat library that is not ours (github.com/silenceper/wechat).
//
// Reads a task from standard input as JSON (base, app_id, key, user, text, picture). The library has
// WeChat's address in its code and one hook for it; the API key stands where the AppSecret would. Prints
// what the library understood.
package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/officialaccount/material"
	"github.com/silenceper/wechat/v2/officialaccount/menu"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/silenceper/wechat/v2/util"
)

type task struct {
	Base    string `json:"base"`
	AppID   string `json:"app_id"`
	Key     string `json:"key"`
	User    string `json:"user"`
	Text    string `json:"text"`
	Picture string `json:"picture"`
}

func main() {
	var task task
	must(json.NewDecoder(os.Stdin).Decode(&task))
	root := task.Base + "/wechat/" + task.AppID
	util.SetURIModifier(func(uri string) string {
		return strings.Replace(uri, "https://api.weixin.qq.com", root, 1)
	})
	account := wechat.NewWechat().GetOfficialAccount(&config.Config{
		AppID:       task.AppID,
		AppSecret:   task.Key,
		UseStableAK: true,
		Cache:       cache.NewMemory(),
	})

	told := map[string]any{}
	followers, err := account.GetUser().ListUserOpenIDs()
	must(err)
	told["followers"] = followers.Data.OpenIDs
	user, err := account.GetUser().GetUserInfo(task.User)
	must(err)
	told["user"] = user.OpenID
	must(account.GetCustomerMessageManager().Send(message.NewCustomerTextMessage(task.User, task.Text)))
	told["sent"] = 0
	must(account.GetMenu().SetMenu([]*menu.Button{menu.NewClickButton("今日茶单", "TEA")}))
	told["menu"] = 0
	shown, err := account.GetMenu().GetMenu()
	must(err)
	told["button"] = shown.Menu.Button[0].Name

	picture, err := hex.DecodeString(task.Picture)
	must(err)
	media, err := account.GetMaterial().MediaUploadFromReader(material.MediaTypeImage, "tea.png", strings.NewReader(string(picture)))
	must(err)
	// The library gives the address of a file, and leaves the rest to its caller.
	address, err := account.GetMaterial().GetMediaURL(media.MediaID)
	must(err)
	answer, err := http.Get(strings.Replace(address, "https://api.weixin.qq.com", root, 1))
	must(err)
	defer answer.Body.Close()
	file, err := io.ReadAll(answer.Body)
	must(err)
	told["picture"] = hex.EncodeToString(file)

	_, err = account.GetUser().GetUserInfo("oNobodyThatAnybodyKnows0000")
	if err != nil {
		if code := regexp.MustCompile(`errcode=(\d+)`).FindStringSubmatch(err.Error()); code != nil {
			told["refusal"], _ = strconv.Atoi(code[1])
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(told))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
