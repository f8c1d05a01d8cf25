// Calls WeChat through a host with a WeChat library that is not ours (WxJava, weixin-java-mp).
//
// Reads a task from standard input as JSON (base, app_id, key, user, text, picture). Of the library only
// the base address is changed, and the API key stands where the AppSecret would. Prints what the library
// understood.

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.HexFormat;
import me.chanjar.weixin.common.bean.menu.WxMenu;
import me.chanjar.weixin.common.bean.menu.WxMenuButton;
import me.chanjar.weixin.common.bean.result.WxMediaUploadResult;
import me.chanjar.weixin.common.error.WxErrorException;
import me.chanjar.weixin.mp.api.WxMpService;
import me.chanjar.weixin.mp.api.impl.WxMpServiceImpl;
import me.chanjar.weixin.mp.bean.kefu.WxMpKefuMessage;
import me.chanjar.weixin.mp.config.WxMpHostConfig;
import me.chanjar.weixin.mp.config.impl.WxMpDefaultConfigImpl;

public final class Forward {
  public static void main(String[] arguments) throws Exception {
    InputStreamReader input = new InputStreamReader(System.in, StandardCharsets.UTF_8);
    JsonObject task = JsonParser.parseReader(input).getAsJsonObject();
    String root = text(task, "base") + "/wechat/" + text(task, "app_id");

    WxMpDefaultConfigImpl config = new WxMpDefaultConfigImpl();
    config.setAppId(text(task, "app_id"));
    config.setSecret(text(task, "key"));
    config.useStableAccessToken(true);
    WxMpHostConfig hosts = new WxMpHostConfig();
    hosts.setApiHost(root);
    config.setHostConfig(hosts);
    WxMpService service = new WxMpServiceImpl();
    service.setWxMpConfigStorage(config);

    JsonObject told = new JsonObject();
    String user = text(task, "user");
    var followers = new com.google.gson.JsonArray();
    service.getUserService().userList(null).getOpenids().forEach(followers::add);
    told.add("followers", followers);
    told.addProperty("user", service.getUserService().userInfo(user).getOpenId());
    WxMpKefuMessage message =
        WxMpKefuMessage.TEXT().toUser(user).content(text(task, "text")).build();
    told.addProperty("sent", service.getKefuService().sendKefuMessage(message) ? 0 : -1);
    WxMenuButton button = new WxMenuButton();
    button.setType("click");
    button.setName("今日茶单");
    button.setKey("TEA");
    WxMenu menu = new WxMenu();
    menu.getButtons().add(button);
    service.getMenuService().menuCreate(menu);
    told.addProperty("menu", 0);
    told.addProperty(
        "button", service.getMenuService().menuGet().getMenu().getButtons().get(0).getName());
    byte[] picture = HexFormat.of().parseHex(text(task, "picture"));
    WxMediaUploadResult media =
        service
            .getMaterialService()
            .mediaUpload("image", "png", new ByteArrayInputStream(picture));
    byte[] back =
        Files.readAllBytes(
            service.getMaterialService().mediaDownload(media.getMediaId()).toPath());
    told.addProperty("picture", HexFormat.of().formatHex(back));
    try {
      service.getUserService().userInfo("oNobodyThatAnybodyKnows0000");
    } catch (WxErrorException refusal) {
      told.addProperty("refusal", refusal.getError().getErrorCode());
    }
    new PrintStream(System.out, true, StandardCharsets.UTF_8).println(told);
    // The library leaves threads behind.
    System.exit(0);
  }

  private static String text(JsonObject task, String name) {
    return task.get(name).getAsString();
  }
}
